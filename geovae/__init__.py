"""geovae: the Riemannian geometry of a variational autoencoder, and sampling from it.

Method: C. Chadebec and S. Allassonnière, A Geometric Perspective on Variational Autoencoders,
NeurIPS 2022 (arXiv 2209.07370); equation numbers in the docstrings are that paper's.
"""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Return `sample`, which loads torch when it is first asked for: a program's `--help` does without."""
    if name == "sample":
        return importlib.import_module("geovae.sampling").sample
    raise AttributeError(f"module 'geovae' has no attribute {name!r}")
