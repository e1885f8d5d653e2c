"""What every sampler shares: how it is fitted and called, its options, and the diagnostics of its draws.

Draws may stay on the data and still give ones and little else: where bumps of a metric overlap, its volume grows as a
power of their number, and a chain ends where codes are densest (docs/volume.md). Distances to the nearest code do not
see it; the shares of clusters of codes do (`Spread`).
"""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, overload

import torch
from torch import Generator, Tensor

from geovae.checks import check_count
from geovae.codes import Codes
from geovae.devices import full_precision
from geovae.geometry.centroids import check_codes
from geovae.neighbours import nearest

CLUSTERS, CODES_A_CLUSTER = 20, 20  # fewer clusters where there are fewer codes
CLUSTERED = 5000  # codes that are clustered; their centres need no more
MOST_PILED = 0.3  # share of the samples in the wrong cluster, beyond chance, from which on a warning says so

SPREAD: Mapping[str, str] = {
    "cluster_share_distance": "share of samples that would have to change the cluster of codes to match the codes' own "
    "shares, beyond chance [part of 1]; lower is better",
    "codes_reached": "effective number of training codes that samples are nearest to [count]; higher is better",
}


class Spread:
    """Shares of clusters of the codes mu (n, d), found by k-means when they are first asked for."""

    def __init__(self, mu: Tensor) -> None:
        """Keep the codes."""
        self.mu = mu.detach()
        self._clusters: tuple[Tensor, Tensor] | None = None

    def scalars(self, z: Tensor) -> dict[str, float]:
        """Return the numbers of `SPREAD` for samples z (m, d); nothing where codes are too few to tell."""
        k = min(CLUSTERS, len(torch.unique(self.mu[:CLUSTERED], dim=0)) // CODES_A_CLUSTER)
        if k < 2 or len(z) < 2:
            return {}
        centres, shares = self._clusters = self._clusters or self._find_clusters(k)
        found = _shares(z, centres)
        # two samples differ by chance: by this much in the mean, as differences of shares are nearly normal
        variance = shares * (1 - shares) * (1 / len(z) + 1 / len(self.mu))
        chance = float((2 * variance / math.pi).sqrt().sum()) / 2
        distance = float((found - shares).abs().sum()) / 2
        return {
            "cluster_share_distance": max(distance - chance, 0.0),
            "codes_reached": count_effective(nearest(z, self.mu).indices, len(self.mu)),
        }

    def _find_clusters(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the centres (k, d) of the clusters, and the codes' shares (k,)."""
        from sklearn.cluster import KMeans

        rows = torch.arange(0, len(self.mu), max(len(self.mu) // CLUSTERED, 1))
        points = self.mu[rows.to(self.mu.device)].double().cpu().numpy()
        centres = torch.from_numpy(KMeans(k, n_init=1, random_state=0).fit(points).cluster_centers_)
        return centres, _shares(self.mu, centres)


def _shares(z: Tensor, centres: Tensor) -> Tensor:
    """Return which share of the points z (m, d) is nearest to each centre (k, d)."""
    indices = nearest(z.double().cpu(), centres).indices
    return torch.bincount(indices, minlength=len(centres)).double() / len(z)


def count_effective(indices: Tensor, n: int) -> float:
    """Return the inverse probability that two draws (m,) from n things agree, without bias; at most n."""
    counts = torch.bincount(indices).double()
    agree = float((counts * (counts - 1)).sum()) / (len(indices) * (len(indices) - 1))
    return float(n) if agree == 0 else min(1 / agree, float(n))


def warn_if_piled(numbers: Mapping[str, float], name: str) -> None:
    """Warn when too many samples lie in the wrong clusters of codes."""
    piled = numbers.get("cluster_share_distance", 0.0)
    if piled > MOST_PILED:
        warnings.warn(
            f"{name}: {piled:.0%} of the samples would have to change their cluster of codes to match the codes' own "
            f"shares: they pile up, and reach an effective {numbers['codes_reached']:.0f} codes; use sampler "
            "'fine_mixture' or 'local', or the Riemannian sampler's preset 'published'",
            stacklevel=3,
        )


def choose_evenly(weights: Tensor, n: int, generator: Generator) -> Tensor:
    """Return n indices (n,) in ascending order, each with probability `weights` (k,), by systematic resampling.

    One random offset places n even steps on the cumulative weights (Kitagawa 1996): index i comes floor(n w_i) or
    ceil(n w_i) times, and so does every run of neighbouring indices, such as the components of one class. Independent
    choices would differ from their shares by sqrt(n w_i), which a Frechet distance of a thousand images sees.
    """
    offset = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64)
    steps = (torch.arange(n, device=generator.device) + offset) / n
    edges = (weights.double() / weights.sum()).cumsum(0)
    return torch.searchsorted(edges, steps, right=True).clamp_(max=len(weights) - 1)


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
