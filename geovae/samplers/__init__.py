"""Samplers of the latent space by name: fitted on codes, they draw latents, and need neither images nor networks.

To add one, write a file with a subclass of `Sampler`, and list it here.
"""

from geovae.samplers.base import Sampler
from geovae.samplers.gaussian import FineMixtureSampler, MixtureSampler, PriorSampler, VampSampler
from geovae.samplers.local import LocalSampler
from geovae.samplers.rhvae import RHVAESampler
from geovae.samplers.riemannian import RiemannianSampler

SAMPLERS: dict[str, type[Sampler]] = {
    "prior": PriorSampler,
    "mixture": MixtureSampler,
    "fine_mixture": FineMixtureSampler,
    "local": LocalSampler,
    "riemannian": RiemannianSampler,
    "vamp": VampSampler,
    "rhvae": RHVAESampler,
}

__all__ = [
    "SAMPLERS",
    "FineMixtureSampler",
    "LocalSampler",
    "MixtureSampler",
    "PriorSampler",
    "RiemannianSampler",
    "Sampler",
]
