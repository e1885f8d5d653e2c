"""The prior of a VAE, N(0, I): what the codes were trained towards, and the baseline of every sampler."""

from typing import Self

import torch

from geovae.codes import Codes
from geovae.geometry.centroids import check_codes
from geovae.samplers.base import Drawn, Sampler
from geovae.samplers.novelty import Novelty
from geovae.samplers.report import SampleInfo


class PriorSampler(Sampler):
    """Independent draws from N(0, I)."""

    def fit(self, codes: Codes) -> Self:
        """Learn the dimension, type and device from `codes`."""
        self._novelty = Novelty(check_codes(codes).mu)
        self._like = codes.mu[:1]
        return self

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        like = self._like
        z = torch.randn(n, like.shape[1], generator=generator, device=generator.device, dtype=like.dtype)
        z = z.to(like.device)
        return z, lambda: SampleInfo(self._novelty.scalars(z))
