"""The prior of a VAE, N(0, I): the baseline of every sampler."""

import torch

from geovae.codes import Codes
from geovae.samplers.base import Drawn, SampleInfo, Sampler


class PriorSampler(Sampler):
    """Independent draws from N(0, I)."""

    def _fit(self, codes: Codes) -> None:
        self._like = codes.mu[:1]  # for dimension, type and device

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        like = self._like
        z = torch.randn(n, like.shape[1], generator=generator, device=generator.device, dtype=like.dtype)
        z = z.to(like.device)
        return z, lambda: SampleInfo(self._novelty.scalars(z))
