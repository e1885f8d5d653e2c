"""Samplers of the latent space: each is fitted on codes and draws latents, and knows neither images nor networks."""

from geovae.samplers.base import Sampler
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

__all__ = ["SAMPLERS", "MixtureSampler", "PriorSampler", "RHVAESampler", "RiemannianSampler", "Sampler", "VampSampler"]
