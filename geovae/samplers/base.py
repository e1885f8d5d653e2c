"""What every sampler shares: the way it is called, what it needs of the codes, and its diagnostics on demand."""

from collections.abc import Callable
from typing import Literal, Self, overload

import torch
from torch import Tensor

from geovae.codes import Codes
from geovae.samplers.novelty import Novelty
from geovae.samplers.report import SampleInfo

Drawn = tuple[Tensor, Callable[[], SampleInfo]]
"""Latents (n, d), and what gives their diagnostics if they are wanted."""


class Sampler:
    """A sampler of the latent space: fitted on codes, it draws latents. Subclasses write `fit` and `_draw`.

    There must be `least_codes` codes or more, with posterior variances where `needs_log_var`, and with the model's own
    tensors named in `needs`.
    """

    needs_log_var = False
    needs: tuple[str, ...] = ()
    least_codes: int = 1
    _novelty: Novelty

    def fit(self, codes: Codes) -> Self:
        """Learn from `codes`, and set `_novelty`."""
        raise NotImplementedError

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        """Return z (n, d), and a function that gives its diagnostics."""
        raise NotImplementedError

    @overload
    def sample(self, n: int, generator: torch.Generator) -> Tensor: ...
    @overload
    def sample(
        self, n: int, generator: torch.Generator, *, return_info: Literal[True]
    ) -> tuple[Tensor, SampleInfo]: ...
    def sample(
        self, n: int, generator: torch.Generator, *, return_info: bool = False
    ) -> Tensor | tuple[Tensor, SampleInfo]:
        """Return n latents z (n, d) that `generator` decides, and with `return_info` their diagnostics.

        Raises:
            ValueError: before `fit`, or for `n` below 1.
        """
        self._check_ready(n)
        z, info = self._draw(n, generator)
        return (z, info()) if return_info else z

    def _check_ready(self, n: int) -> None:
        if not hasattr(self, "_novelty"):
            raise ValueError(f"{type(self).__name__} has no codes yet: call `fit(codes)` before `sample`")
        if n < 1:
            raise ValueError(f"`n` must be at least 1, got {n}")
