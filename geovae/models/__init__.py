"""Autoencoders by name: to add one, write a file with `encode`, `decode` and `loss`, and list it here.

A model declares `losses` (what it records: name -> meaning) and `toy` (how the contract tests train it). It may have
four callbacks. `prepare(images, generator)` is called once before the first epoch, with the training images;
`begin_epoch(epoch)` and `end_epoch(images)` are called around the steps of every epoch, before its validation; what
they change and a resumed run needs must be parameters or buffers. `latent_tensors()` returns the tensors of the model's
own prior or metric, which are stored with the codes for the sampler that draws from it.
"""

from typing import Any

import torch
from torch import nn

from geovae.checks import shown
from geovae.models.ae import AE, RAE, RAEGP, RAEL2, RAESN
from geovae.models.hvae import HVAE
from geovae.models.networks import ImageShape
from geovae.models.rhvae import RHVAE
from geovae.models.vae import VAE, log_likelihood
from geovae.models.vamp import VAMP
from geovae.models.wae import WAE

MODELS: dict[str, type[nn.Module]] = {
    "vae": VAE,
    "ae": AE,
    "wae": WAE,
    "rae": RAE,
    "rae_l2": RAEL2,
    "rae_gp": RAEGP,
    "rae_sn": RAESN,
    "vamp": VAMP,
    "hvae": HVAE,
    "rhvae": RHVAE,
}

LARGEST = 1 << 31  # weights of a model, 8 GB

__all__ = ["MODELS", "build_model", "log_likelihood"]


def build_model(name: str, image_shape: ImageShape, *, seed: int = 0, **options: Any) -> nn.Module:
    """Return the model `name` for images (c, h, w), its weights drawn from `seed`; the global state is kept.

    Raises:
        ValueError: for an unknown name, or options that the model refuses.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {shown(name)}; the models are {', '.join(MODELS)}")
    with torch.random.fork_rng(devices=[]):  # torch's initialisers know no generator argument
        with torch.device("meta"):  # without memory: weights that do not fit into it would end the process
            planned: nn.Module = MODELS[name](image_shape, **options)
        if (n := sum(weights.numel() for weights in planned.parameters())) > LARGEST:
            raise ValueError(f"model {name!r} would have {n:,} weights, at most {LARGEST:,}: choose smaller sizes")
        torch.default_generator.manual_seed(seed)
        return MODELS[name](image_shape, **options)
