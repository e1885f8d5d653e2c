"""Autoencoders by name: to add one, write a file with `encode`, `decode` and `loss`, and add a line here."""

from typing import Any

import torch
from torch import nn

from geovae.models.ae import AE
from geovae.models.networks import NETWORKS, ImageShape
from geovae.models.vae import VAE

MODELS: dict[str, type[nn.Module]] = {"vae": VAE, "ae": AE}

__all__ = ["AE", "MODELS", "NETWORKS", "VAE", "build_model"]


def build_model(name: str, image_shape: ImageShape, *, seed: int = 0, **options: Any) -> nn.Module:
    """Return the model `name` for images (c, h, w), its weights drawn from `seed`; the global state is kept.

    Raises:
        ValueError: for an unknown name, or options that the model refuses.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; the models are {', '.join(MODELS)}")
    with torch.random.fork_rng(devices=[]):  # torch's initialisers know no generator argument
        torch.default_generator.manual_seed(seed)
        return MODELS[name](image_shape, **options)
