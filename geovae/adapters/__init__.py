"""Autoencoders that were trained elsewhere: any torch module, pythae's, diffusers', a file of weights.

An encoder returns `(mu, log_var)`, or `mu` alone, or `Codes`, of images (b, c, h, w) in [0, 1]; a decoder returns
images in [0, 1] of latents. Latents of any shape are flattened to (b, d), and get their shape back to be decoded.
"""

from geovae.adapters.adapter import Adapter, adapt
from geovae.adapters.adopted import KINDS, Architecture, adopt, build_adopted, class_names
from geovae.adapters.diffusers import from_diffusers, load_diffusers
from geovae.adapters.pythae import from_pythae, load_pythae
from geovae.adapters.weights import load_weights

__all__ = [
    "KINDS",
    "Adapter",
    "Architecture",
    "adapt",
    "adopt",
    "build_adopted",
    "class_names",
    "from_diffusers",
    "from_pythae",
    "load_diffusers",
    "load_pythae",
    "load_weights",
]
