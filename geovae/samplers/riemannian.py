"""The Riemannian sampler: HMC on `sqrt(det G(z))^sharpness` for the metric of Eq. 7 built from posterior variances.

Chadebec & Allassonnière (2022), Section 4.5. Chains start at codes that the metric covers, and explore around
them.
"""

from typing import Any, Literal, Self

import torch
from torch import Tensor

from geovae.codes import Codes
from geovae.geometry.centroids import check_codes, choose_centroids, take
from geovae.geometry.checks import check_finite
from geovae.geometry.metric import LatentMetric
from geovae.geometry.temperature import (
    above_floor,
    coverage_temperature,
    fraction_above_floor,
    likelihood_temperature,
    published_temperature,
)
from geovae.samplers.adaptation import local_inverse_mass, warm_up
from geovae.samplers.base import Drawn, Sampler
from geovae.samplers.chains import Kernel, Trace, run
from geovae.samplers.hmc import LogDensity, Parameters
from geovae.samplers.jumps import BumpMixture
from geovae.samplers.novelty import Novelty
from geovae.samplers.options import check_options, resolve_preset
from geovae.samplers.report import SampleInfo, mixing, movement, warn_if_blind, warn_if_still

MEASURED = 2000  # codes used to measure distances and coverage; a quantile needs no more
WARM_UP_CHAINS = 50
MOST_ROUNDING = 0.1  # of an exponent; beyond it everything is computed in float64
SUPERCHAINS, CHAINS_PER_SUPER = 16, 8


class RiemannianSampler(Sampler):
    """Samples from the Riemannian uniform density of a VAE's codes.

    Args:
        preset: "published" (the paper's recipe) or "published-code" (with the sharper density its code really has);
            it replaces the options that are left at their default.
        centroids: which codes carry the metric: "kmeans", "all", "random", "first" or "published" (k-medoids).
        n_centroids: how many; none: all codes, as Eq. 7 has it, whatever `centroids` says.
        temperature: rho, a positive number or a rule: "coverage", "likelihood" or "published".
        coverage: the share of codes within rho of a centroid, for the rule "coverage".
        temperature_scale: multiplies what a rule says, not a number.
        floor: lambda, the metric far from every centroid.
        decay: tau, above 0 the floor fades as exp(-tau |z|^2); with 0 the density has no finite mass, and a chain that
            is long enough leaves the codes for the floor.
        sharpness: power of the density: 1 is the paper's, 2 / d turns it into about a mixture of bumps.
        start: where chains start: at random "codes", at random "centroids", or at random "covered" codes, those above
            the floor: on the floor the density is flat, and a chain that starts there walks away from the data.
        n_transitions: length of a chain.
        n_leapfrog: leapfrog steps in a transition.
        step_size: of the leapfrog; none: dual averaging when fitting.
        target_acceptance: of the dual averaging.
        mass: "posterior" scales each dimension by the mean posterior variance, "unit" does not.
        n_jumps: proposals between modes before each transition. They reach the density itself, which in many dimensions
            piles up where bumps overlap; short chains without jumps stay near the codes they start from.
        seed: for the choice of centroids and the warm-up when fitting.
    """

    needs_log_var = True

    def __init__(
        self,
        preset: Literal["published", "published-code"] | None = None,
        centroids: Literal["kmeans", "all", "random", "first", "published"] = "kmeans",
        n_centroids: int | None = None,
        temperature: float | Literal["coverage", "likelihood", "published"] = "coverage",
        coverage: float = 0.5,
        temperature_scale: float = 0.7,
        floor: float = 0.01,
        decay: float = 0.0,
        sharpness: float = 1.0,
        start: Literal["covered", "codes", "centroids"] = "covered",
        n_transitions: int = 5,
        n_leapfrog: int = 10,
        step_size: float | None = None,
        target_acceptance: float = 0.8,
        mass: Literal["posterior", "unit"] = "posterior",
        n_jumps: int = 0,
        seed: int = 0,
    ) -> None:
        """Check the ranges and resolve the preset."""
        given = {name: value for name, value in locals().items() if name not in ("self", "preset")}
        self.options = check_options(resolve_preset(preset, given, type(self).__init__))
        self.least_codes = 1 if self.options["centroids"] == "all" else self.options["n_centroids"] or 1

    def fit(self, codes: Codes) -> Self:
        """Build the metric from `codes`, measure its coverage, and find the step size."""
        check_codes(codes, need_log_var=True)
        o = self.options
        generator = torch.Generator().manual_seed(o["seed"])
        self._dtype = codes.mu.dtype
        self.metric, own = build_metric(codes, o)
        if rounding_error(self.metric) > MOST_ROUNDING:
            codes = Codes(codes.mu.double(), None if codes.log_var is None else codes.log_var.double())
            self.metric, own = build_metric(codes, o)
        self._codes = codes
        measured = _spread(len(codes.mu), MEASURED)
        self.fraction_above_floor = fraction_above_floor(self.metric, codes.mu[measured], own=own[measured])
        warn_if_blind(self.fraction_above_floor, self.metric)
        self._start_points = self._choose_start_points()
        self.kernel = self._kernel(generator)
        self._novelty = Novelty(codes.mu)
        return self

    def _kernel(self, generator: torch.Generator) -> Kernel:
        o, metric = self.options, self.metric
        sharpness = o["sharpness"]

        def log_density(z: Tensor) -> tuple[Tensor, Tensor]:
            volume, gradient = metric.log_volume_and_grad(z)
            return volume.mul_(sharpness), gradient.mul_(sharpness)

        inverse_mass = torch.ones_like(metric.centroids[0])
        if o["mass"] == "posterior":
            inverse_mass = local_inverse_mass(1 / metric.values)
        step_size = o["step_size"]
        if step_size is None:
            step_size = self._tuned_step(log_density, inverse_mass, generator)
        bumps = BumpMixture(metric, sharpness) if o["n_jumps"] else None
        return Kernel(log_density, Parameters(step_size, o["n_leapfrog"], inverse_mass), bumps, o["n_jumps"])

    def _tuned_step(self, log_density: LogDensity, inverse_mass: Tensor, generator: torch.Generator) -> float:
        mu = self._codes.mu
        spread = float((mu.std(0, correction=0) / inverse_mass.sqrt()).max())
        return warm_up(
            self._starts(WARM_UP_CHAINS, generator),
            log_density,
            n_leapfrog=self.options["n_leapfrog"],
            inverse_mass=inverse_mass,
            generator=generator,
            target=self.options["target_acceptance"],
            largest_step=max(spread, 1e-6),
            restart_every=max(self.options["n_transitions"], 1),
        )[0].step_size

    def _choose_start_points(self) -> Tensor:
        if self.options["start"] == "codes":
            return self._codes.mu
        covered = self._codes.mu[above_floor(self.metric, self._codes.mu)]
        return self.metric.centroids if self.options["start"] == "centroids" or not len(covered) else covered

    def _starts(self, n: int, generator: torch.Generator) -> Tensor:
        points = self._start_points
        index = torch.randint(len(points), (n,), generator=generator, device=generator.device)
        return points[index.to(points.device)]

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        return self._from(self._starts(n, generator), generator)

    def sample_from(
        self, start: Tensor, generator: torch.Generator, *, return_info: bool = False
    ) -> Tensor | tuple[Tensor, SampleInfo]:
        """Return the last states of chains from the given points `start` (n, d); otherwise as `sample`."""
        self._check_ready(len(start))
        if start.ndim != 2 or start.shape[1] != self.metric.d:
            raise ValueError(f"`start` must have shape (n, {self.metric.d}), got {tuple(start.shape)}")
        check_finite(start=start)
        z, info = self._from(start, generator)
        return (z, info()) if return_info else z

    def _from(self, start: Tensor, generator: torch.Generator) -> Drawn:
        start = start.to(self.metric.centroids.dtype)
        trace = run(start, self.kernel, self.options["n_transitions"], generator)
        return trace.position.to(self._dtype), lambda: self._describe(start, trace, generator)

    def _describe(self, start: Tensor, trace: Trace, generator: torch.Generator) -> SampleInfo:
        numbers = {**self._settings(), **movement(start, trace, self.metric, self._novelty)}
        numbers |= self._mixing(generator)
        warn_if_still(numbers)
        chains = {
            "acceptance": trace.acceptance,
            "diverged": trace.diverged,
            "moved": (trace.position - start).norm(dim=1),
            "log_density": trace.log_density,
        }
        return SampleInfo(numbers, chains)

    def _settings(self) -> dict[str, float]:
        return {
            "temperature": self.metric.temperature,
            "n_centroids": float(self.metric.k),
            "step_size": self.kernel.parameters.step_size,
            "codes_above_floor": self.fraction_above_floor,
        }

    def _mixing(self, generator: torch.Generator) -> dict[str, float]:
        """Probe with chains that start in groups at the same code: short chains need that to be judged."""
        start = self._starts(SUPERCHAINS, generator).repeat_interleave(CHAINS_PER_SUPER, dim=0)
        trace = run(start, self.kernel, self.options["n_transitions"], generator, keep=True)
        return mixing(trace, SUPERCHAINS)


def rounding_error(metric: LatentMetric) -> float:
    """Return by how much rounding may change an exponent of Eq. 7: much for posteriors narrow beside the codes."""
    squares = metric.values * (metric.centroids - metric.centroids.mean(0)).square()
    return float(squares.sum(1).max()) / metric.temperature**2 * torch.finfo(squares.dtype).eps


def build_metric(codes: Codes, o: dict[str, Any]) -> tuple[LatentMetric, Tensor]:
    """Return the metric of Eq. 7 under the options `o`, and which centroid each code is (n,), or -1."""
    method = "all" if o["n_centroids"] is None else o["centroids"]
    indices = choose_centroids(codes, method, o["n_centroids"] or 1, seed=o["seed"])
    own = torch.full((len(codes.mu),), -1, dtype=torch.long, device=indices.device)
    own[indices] = torch.arange(len(indices), device=indices.device)
    chosen = take(codes, indices)
    assert chosen.log_var is not None
    values = (-chosen.log_var).exp()
    temperature = resolve_temperature(codes, chosen.mu, values, own, o)
    metric = LatentMetric(chosen.mu, values, temperature=temperature, floor=o["floor"], decay=o["decay"])
    return metric, own


def resolve_temperature(codes: Codes, centroids: Tensor, values: Tensor, own: Tensor, o: dict[str, Any]) -> float:
    """Return rho: the number given, or what the rule says, times `temperature_scale`."""
    measured = _spread(len(codes.mu), MEASURED)
    z, own = codes.mu[measured], own[measured]
    rule = o["temperature"]
    if rule == "published":
        rho = published_temperature(centroids)
    elif rule == "coverage":
        rho = coverage_temperature(z, centroids, values, coverage=o["coverage"], own=own)
    elif rule == "likelihood":
        rho = likelihood_temperature(z, centroids, values, sharpness=o["sharpness"], own=own)
    else:
        return float(rule)
    return rho * float(o["temperature_scale"])


def _spread(n: int, most: int) -> Tensor:
    """Return `most` indices at even distances in 0..n-1, or all."""
    return torch.arange(n) if n <= most else torch.linspace(0, n - 1, most).round().long()
