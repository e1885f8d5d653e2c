"""Samplers of the latent space by name: fitted on codes, they draw latents, and need neither images nor networks.

To add one, write a file with a subclass of `Sampler`, and add a line here.
"""

from geovae.samplers.base import Novelty, SampleInfo, Sampler
from geovae.samplers.mixture import MixtureSampler
from geovae.samplers.prior import PriorSampler
from geovae.samplers.rhvae import RHVAESampler
from geovae.samplers.riemannian import RiemannianSampler
from geovae.samplers.vamp import VampSampler

SAMPLERS: dict[str, type[Sampler]] = {
    "prior": PriorSampler,
    "mixture": MixtureSampler,
    "riemannian": RiemannianSampler,
    "vamp": VampSampler,
    "rhvae": RHVAESampler,
}

__all__ = [
    "SAMPLERS",
    "MixtureSampler",
    "Novelty",
    "PriorSampler",
    "RHVAESampler",
    "RiemannianSampler",
    "SampleInfo",
    "Sampler",
    "VampSampler",
]
