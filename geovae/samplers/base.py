"""What every sampler shares: how it is fitted and called, its options, and the diagnostics of its draws."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, overload

import torch
from torch import Tensor

from geovae.checks import check_count
from geovae.codes import Codes
from geovae.devices import full_precision
from geovae.geometry.centroids import check_codes
from geovae.neighbours import nearest
from geovae.samplers.spread import SPREAD, Spread, warn_if_piled

REFERENCE_ROWS = 2000  # codes whose distance to the other codes is measured; a median needs no more


@dataclass(frozen=True)
class SampleInfo:
    """Diagnostics of one call of `sample`.

    `numbers` are recorded as they are, under names from the sampler's `diagnostics`. `chains` holds tensors (n,), for
    HMC `acceptance`, `diverged`, `moved` and `log_density`.
    """

    numbers: dict[str, float]
    chains: dict[str, Tensor] = field(default_factory=dict)

    def scalars(self) -> dict[str, float]:
        """Return the numbers as a new dict."""
        return dict(self.numbers)


class Novelty:
    """Distances of samples to their nearest codes, relative to the distances between codes.

    A sampler that returns its training codes with a little noise has superb scores, and a ratio near 0 here. Fresh
    draws from the distribution of the codes have a ratio near 1.

    Args:
        mu: codes (n, d) that the sampler is fitted on.
        held_out: other codes (m, d) to compare with; without them, up to 2,000 codes are compared with the rest.
    """

    def __init__(self, mu: Tensor, held_out: Tensor | None = None) -> None:
        """Measure the reference distance once."""
        self.mu = mu.detach()  # codes may carry the graph of the encoder
        self.reference = float("nan")
        if held_out is not None:
            self.reference = float(nearest(held_out, self.mu).distances.median())
        elif len(mu) > 1:
            rows = torch.arange(0, len(mu), max(len(mu) // REFERENCE_ROWS, 1))
            self.reference = float(nearest(self.mu[rows], self.mu, exclude=rows).distances.median())

    def scalars(self, z: Tensor) -> dict[str, float]:
        """Return the median distance of z (n, d) to its nearest code, and its ratio to the reference distance."""
        distance = float(nearest(z, self.mu).distances.median())
        numbers = {"nearest_code": distance}
        if self.reference > 0:  # codes that coincide have no scale to compare with
            numbers["nearest_code_ratio"] = distance / self.reference
        return numbers


Drawn = tuple[Tensor, Callable[[], SampleInfo]]
"""Latents (n, d), and a function that computes their diagnostics, which is called only if they are wanted."""


class Sampler:
    """A sampler of the latent space: fitted on codes, it draws latents. Subclasses write `_fit` and `_draw`.

    Every argument of a subclass's constructor is stored in an attribute of the same name.

    Attributes:
        needs_log_var: whether the codes must have posterior variances.
        needs: names of tensors in the codes' `extras` (a model's own prior or metric) that must be present.
        least_codes: the smallest number of codes to fit on.
        diagnostics: what is recorded of the draws: name -> meaning, with the unit in brackets.
        follows_codes: whether draws shall spread as the codes do; a prior's need not.
    """

    needs_log_var: bool = False
    needs: ClassVar[tuple[str, ...]] = ()
    least_codes: int = 1
    diagnostics: ClassVar[Mapping[str, str]] = {
        "nearest_code": "median distance of a sample to its nearest training code [latent units]",
        "nearest_code_ratio": "the same over that of held-out codes, or between training codes; 0: copies",
        **SPREAD,
    }
    follows_codes: bool = True
    _novelty: Novelty
    _spread: Spread
    _fitted = False

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's options, resolved: given back to the constructor, they build the same sampler."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @full_precision()
    def fit(self, codes: Codes) -> Self:
        """Learn from `codes` (n, d).

        Raises:
            ValueError: if they are broken, or lack something that this sampler needs.
        """
        check_codes(codes, need_log_var=self.needs_log_var)
        missing = [name for name in self.needs if name not in codes.extras]
        if missing:
            raise ValueError(
                f"{type(self).__name__} needs {missing[0]!r} of the model that made the codes, and these have none; "
                "use codes of a model that provides it in `latent_tensors`"
            )
        self._novelty, self._spread = Novelty(codes.mu, codes.held_out), Spread(codes.mu)
        self._fit(codes)
        self._fitted = True
        return self

    def _fit(self, codes: Codes) -> None:
        """Learn from codes that were checked."""
        raise NotImplementedError

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        """Return z (n, d), and a function that computes its diagnostics."""
        raise NotImplementedError

    @overload
    def sample(self, n: int, generator: torch.Generator) -> Tensor: ...
    @overload
    def sample(
        self, n: int, generator: torch.Generator, *, return_info: Literal[True]
    ) -> tuple[Tensor, SampleInfo]: ...
    @full_precision()
    def sample(
        self, n: int, generator: torch.Generator, *, return_info: bool = False
    ) -> Tensor | tuple[Tensor, SampleInfo]:
        """Return n latents z (n, d), decided by the state of `generator`; with `return_info` also their diagnostics.

        Raises:
            ValueError: before `fit`, or for `n` below 1.
        """
        self._check_ready(n)
        z, describe = self._draw(n, generator)
        if not return_info:
            return z
        info = describe()
        info.numbers.update(self._spread.scalars(z))
        if self.follows_codes:
            warn_if_piled(info.numbers, type(self).__name__)
        return z, info

    def _check_ready(self, n: int) -> None:
        if not self._fitted:
            raise ValueError(f"{type(self).__name__} has no codes yet: call `fit(codes)` before `sample`")
        check_count(n=n)
