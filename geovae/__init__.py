"""geovae: the Riemannian geometry of a variational autoencoder, and sampling from it.

Method: C. Chadebec and S. Allassonnière, A Geometric Perspective on Variational Autoencoders,
NeurIPS 2022 (arXiv 2209.07370); equation numbers in the docstrings are that paper's.
"""

__version__ = "0.1.0"
