"""Samplers of the latent space by name: fitted on codes, they draw latents, and need neither images nor networks.

To add one, write a file with a subclass of `Sampler`, and list it here.
"""

from typing import Any

from geovae.codes import Codes
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
    "fit_sampler",
]


def fit_sampler(name: str, codes: Codes, *, label: int | None = None, **options: Any) -> Sampler:
    """Return the sampler `name` fitted on `codes`, on those of the class `label` alone if one is given.

    Raises:
        ValueError: for a wrong option, codes that this sampler cannot use, or a class that it or they do not have.
    """
    sampler = SAMPLERS[name](**options)
    if label is None:
        return sampler.fit(codes)
    if sampler.needs or not sampler.follows_codes:
        raise ValueError(f"sampler {name} draws from the model's prior, which has no classes: leave `label` out")
    return sampler.fit(codes.of_class(label))
