"""Draws from bumps at the codes: choose a code, then draw from the Gaussian of its neighbourhood, exactly and at once.

With the covariance of the nearest codes these are manifold Parzen windows (Vincent & Bengio 2003); with one isotropic
bandwidth it is the smoothed bootstrap (Silverman & Young 1987). How far the bumps reach decides everything: too little
copies the training codes, too much leaves the data. The reach is found from codes alone: draws shall lie as far from
the training codes as held-out codes do.
"""

import math
import warnings
from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor

from geovae.checks import check_choice, check_count, check_finite, check_positive
from geovae.codes import Codes
from geovae.neighbours import k_nearest
from geovae.samplers.base import Drawn, SampleInfo, Sampler, choose_evenly

Shape = Literal["neighbours", "posterior", "both", "isotropic"]

PROBES = 3000  # draws that measure the novelty; the standard error of their median is about 2 %
BISECTIONS = 10
SHORTEST, LONGEST = 0.05, 20.0  # between which the scale is searched
LARGEST_BUMP = 3.0  # standard deviation of a bump over the median: a lone code must not spread over the whole space
RIDGE = 1e-3  # of a bump's mean variance, in all directions: fewer neighbours than dimensions span a plane only
SPANNED = {"neighbours": 1.0, "both": 0.5, "posterior": 0.0, "isotropic": 0.0}  # share of the neighbours' covariance
ROWS = 4096  # codes whose neighbours are gathered at once


class LocalSampler(Sampler):
    """Samples from `(1/n) sum_i N(m_i, scale^2 C_i)`, one bump for each code mu_i.

    Within a batch every code is drawn from equally often, up to one draw, and so is every class if the codes have
    labels.

    Args:
        shape: the covariance C_i. "neighbours": of the nearest codes around m_i; "isotropic": the same variance in all
            directions; "posterior": the code's own variances, scaled to that variance; "both": the mean of
            "neighbours" and "posterior".
        n_neighbours: how many nearest codes; fewer where there are not so many others.
        centre: how far m_i is moved from its code to the mean of its neighbours, from 0 to 1.
        novelty: how far draws shall lie from the training codes, in units of held-out codes, where `scale` is None:
            1 is as far as new data, below .95 a sampler copies.
        scale: the reach, in standard deviations of C_i. [found, so that draws have the asked novelty]
    """

    least_codes = 3
    diagnostics: ClassVar[Mapping[str, str]] = {
        **Sampler.diagnostics,
        "scale": "reach of the bumps, found or given [standard deviations of a neighbourhood]",
    }

    def __init__(
        self,
        shape: Shape = "neighbours",
        n_neighbours: int = 20,
        centre: float = 0.0,
        novelty: float = 1.0,
        scale: float | None = None,
    ) -> None:
        """Check the ranges."""
        check_choice("shape", shape, get_args(Shape))
        check_count(n_neighbours=n_neighbours)
        if not 0 <= centre <= 1:
            raise ValueError(f"`centre` must lie in [0, 1], got {centre}")
        check_positive(novelty=novelty, scale=1.0 if scale is None else scale)
        self.shape, self.n_neighbours, self.centre = shape, n_neighbours, centre
        self.novelty, self.scale = novelty, scale
        self.needs_log_var = shape in ("posterior", "both")

    def _fit(self, codes: Codes) -> None:
        n = len(codes.mu)
        if n < self.least_codes:
            raise ValueError(f"sampler local needs {self.least_codes} codes or more, got {n}")
        self._mu, self._labels = codes.mu.detach(), codes.labels
        self._neighbours = k_nearest(self._mu, self._mu, min(self.n_neighbours, n - 1), exclude=torch.arange(n))
        every = torch.arange(n, device=self._mu.device).split(ROWS)
        variance = torch.cat([self._gather(rows)[1].square().mean((1, 2)) for rows in every])
        variance = variance.clamp(max=LARGEST_BUMP**2 * float(variance.median()) or math.inf)
        self._variance = variance.clamp(min=torch.finfo(variance.dtype).tiny)  # codes that coincide
        self._diagonal = self._diagonals(codes)
        self._found = self._find_scale() if self.scale is None else self.scale

    def _gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centres (b, d) of the bumps `rows` (b,), and their neighbours (b, m, d) relative to them."""
        near = self._mu[self._neighbours[rows]]
        centres = torch.lerp(self._mu[rows], near.mean(1), self.centre)
        return centres, near - centres[:, None]

    def _diagonals(self, codes: Codes) -> Tensor:
        """Return the part of the covariances that has axes of its own, as variances (n, d) or (n, 1)."""
        variance = self._variance[:, None]
        if self.shape in ("neighbours", "isotropic"):
            return variance * (RIDGE if self.shape == "neighbours" else 1.0)
        assert codes.log_var is not None
        relative = (codes.log_var.detach() - codes.log_var.detach().max(1, keepdim=True).values).exp()
        return relative / relative.mean(1, keepdim=True) * variance * (1 - SPANNED[self.shape])

    def _draw_parts(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return centres (n, d) and deviations (n, d) at scale 1."""
        mu, device = self._mu, generator.device
        rows = self._choose_codes(n, generator).to(mu.device)
        along = torch.randn(n, self._neighbours.shape[1], generator=generator, device=device, dtype=mu.dtype)
        deviations = torch.randn(n, mu.shape[1], generator=generator, device=device, dtype=mu.dtype).to(mu.device)
        deviations *= self._diagonal[rows].sqrt()
        centres = []
        for block, steps, part in zip(
            rows.split(ROWS), along.to(mu.device).split(ROWS), deviations.split(ROWS), strict=True
        ):
            middle, near = self._gather(block)
            part += torch.einsum("bm,bmd->bd", steps, near) * self._spanned(block, near)[:, None]
            centres.append(middle)
        return torch.cat(centres), deviations

    def _choose_codes(self, n: int, generator: Generator) -> Tensor:
        """Return n codes, each as often as any other within one, and so is each class where there are labels."""
        device = generator.device
        order = torch.randperm(len(self._mu), generator=generator, device=device)
        if self._labels is not None:
            order = order[self._labels.to(device)[order].argsort(stable=True)]
        rows = order[choose_evenly(torch.ones(len(order), device=device), n, generator)]
        return rows[torch.randperm(n, generator=generator, device=device)]

    def _spanned(self, rows: Tensor, near: Tensor) -> Tensor:
        """Return the factor (b,) by which draws along the neighbours (b, m, d) have their share of the variance."""
        actual = near.square().mean((1, 2)).clamp(min=torch.finfo(near.dtype).tiny)
        capped = (self._variance[rows] / actual).clamp(max=1.0)
        return (SPANNED[self.shape] * capped / near.shape[1]).sqrt()

    def _find_scale(self) -> float:
        """Return the scale at which the draws have the asked novelty, by bisection over the same draws."""
        if not self._novelty.reference > 0:
            return 1.0  # codes coincide: there is no distance to match
        centres, deviations = self._draw_parts(PROBES, Generator().manual_seed(0))
        moved = (centres + deviations != centres).any(1)  # no scale moves a bump whose neighbours all coincide with it
        if not moved.any():
            return 1.0
        centres, deviations = centres[moved], deviations[moved]
        low, high = math.log(SHORTEST), math.log(LONGEST)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            reached = self._novelty.scalars(centres + math.exp(middle) * deviations)["nearest_code_ratio"]
            low, high = (low, middle) if reached > self.novelty else (middle, high)
        found = math.exp((low + high) / 2)
        reached = self._novelty.scalars(centres + found * deviations)["nearest_code_ratio"]
        if abs(reached / self.novelty - 1) > 0.2:
            warnings.warn(
                f"no scale of the bumps gives draws the novelty {self.novelty:g}: the nearest is {reached:.3g}, at "
                f"scale {found:.3g}; use another `centre`, or set `scale`",
                stacklevel=4,
            )
        return found

    def _draw(self, n: int, generator: Generator) -> Drawn:
        centres, deviations = self._draw_parts(n, generator)
        z = centres + self._found * deviations
        return z, lambda: SampleInfo({"scale": self._found, **self._novelty.scalars(z)})

    def log_density(self, z: Tensor) -> Tensor:
        """Return the exact log-density (n,) at the points z (n, d), in nats and float64: of held-out codes, say.

        Raises:
            ValueError: before `fit`, or for points of another width or not finite.
        """
        self._check_ready(len(z))
        if z.ndim != 2 or z.shape[1] != self._mu.shape[1]:
            raise ValueError(f"`z` must have shape (n, {self._mu.shape[1]}), got {tuple(z.shape)}")
        check_finite(z=z)
        z = z.to(self._mu.device, torch.float64)
        total = torch.full((len(z),), -math.inf, dtype=torch.float64, device=z.device)
        rows = max(1, ROWS * 64 // max(len(z), z.shape[1]))
        for block in torch.arange(len(self._mu), device=z.device).split(rows):
            total = torch.logaddexp(total, self._log_bumps(z, block).logsumexp(0))
        return total - math.log(len(self._mu))

    def _log_bumps(self, z: Tensor, rows: Tensor) -> Tensor:
        """Return the log-densities (b, n) of the bumps `rows` at z (n, d)."""
        centres, near = self._gather(rows)
        near = (near * self._spanned(rows, near)[:, None, None]).double()
        covariance = near.mT @ near + torch.diag_embed(self._diagonal[rows].double().expand(len(rows), z.shape[1]))
        factor = torch.linalg.cholesky(self._found**2 * covariance)
        away = (z[None] - centres[:, None].double()).mT  # (b, d, n)
        squares = torch.linalg.solve_triangular(factor, away, upper=False).square().sum(1)
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1, keepdim=True)
        return -0.5 * (squares + log_det + z.shape[1] * math.log(2 * math.pi))
