"""The prior of a VAE, N(0, I): what the codes were trained towards, and the baseline of every sampler."""

from typing import Literal, Self, overload

import torch
from torch import Tensor

from geovae.codes import Codes
from geovae.geometry.centroids import check_codes
from geovae.samplers.novelty import Novelty
from geovae.samplers.report import SampleInfo, check_count


class PriorSampler:
    """Independent draws from N(0, I)."""

    needs_log_var = False

    def fit(self, codes: Codes) -> Self:
        """Learn the dimension, type and device from `codes`."""
        self._novelty = Novelty(check_codes(codes).mu)
        self._like = codes.mu[:1]
        return self

    @overload
    def sample(self, n: int, generator: torch.Generator) -> Tensor: ...
    @overload
    def sample(
        self, n: int, generator: torch.Generator, *, return_info: Literal[True]
    ) -> tuple[Tensor, SampleInfo]: ...
    def sample(
        self, n: int, generator: torch.Generator, *, return_info: bool = False
    ) -> Tensor | tuple[Tensor, SampleInfo]:
        """Return z (n, d), and with `return_info` its diagnostics."""
        check_count(self, n)
        like = self._like
        z = torch.randn(n, like.shape[1], generator=generator, device=generator.device, dtype=like.dtype)
        z = z.to(like.device)
        return (z, SampleInfo(self._novelty.scalars(z))) if return_info else z
