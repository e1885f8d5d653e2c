"""The Riemannian sampler: HMC on `sqrt(det G(z))^sharpness` for the metric of Eq. 7 built from posterior variances.

Chadebec & Allassonnière (2022), Section 4.5. Chains start at codes that the metric covers, and explore around them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from geovae.checks import check_choice, check_count, check_finite, check_not_negative, check_positive, check_share
from geovae.codes import Codes
from geovae.devices import full_precision
from geovae.geometry.centroids import choose_centroids, select_codes
from geovae.geometry.local import local_precisions
from geovae.geometry.metric import LatentMetric
from geovae.geometry.temperature import (
    above_floor,
    coverage_temperature,
    fraction_above_floor,
    likelihood_temperature,
    published_temperature,
)
from geovae.samplers.base import Drawn, SampleInfo, Sampler
from geovae.samplers.chains import BumpMixture, Kernel, Trace, run_chains
from geovae.samplers.diagnostics import (
    MIXING,
    MOVEMENT,
    describe_mixing,
    describe_movement,
    warn_if_flat,
    warn_if_still,
)
from geovae.samplers.hmc import Parameters, check_chains, local_inverse_mass, warm_up
from geovae.samplers.volume import VolumeDensity

MEASURED = 2000  # codes used to measure distances and coverage; a quantile needs no more
WARM_UP_CHAINS = 50
MOST_ROUNDING = 0.1  # of an exponent; beyond it everything is computed in float64
SUPERCHAINS, CHAINS_PER_SUPER = 16, 8

Centroids = Literal["kmeans", "all", "random", "first", "published"]
Rule = Literal["coverage", "likelihood", "published"]
Start = Literal["covered", "codes", "centroids"]
Mass = Literal["posterior", "unit"]
Covariance = Literal["posterior", "neighbours", "bandwidth"]


@dataclass(frozen=True)
class Settings:
    """The options of `RiemannianSampler` with a value for each, checked; the defaults are those without a preset."""

    covariance: Covariance = "posterior"
    centroids: Centroids = "kmeans"
    n_centroids: int | None = None
    temperature: float | Rule = "coverage"
    coverage: float = 0.5
    temperature_scale: float = 0.7
    floor: float = 0.01
    decay: float = 0.0
    sharpness: float = 1.0
    start: Start = "covered"
    n_transitions: int = 5
    n_leapfrog: int = 10
    step_size: float | None = None
    target_acceptance: float = 0.8
    mass: Mass = "posterior"
    n_jumps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_choice("covariance", self.covariance, get_args(Covariance))
        check_choice("centroids", self.centroids, get_args(Centroids))
        if self.n_centroids is not None:
            check_count(n_centroids=self.n_centroids)
        if isinstance(self.temperature, str):
            check_choice("temperature", self.temperature, get_args(Rule))
        else:
            check_positive(temperature=self.temperature)
        check_share(coverage=self.coverage)
        check_positive(temperature_scale=self.temperature_scale, floor=self.floor, sharpness=self.sharpness)
        check_not_negative(decay=self.decay)
        check_choice("start", self.start, get_args(Start))
        check_chains(self.n_transitions, self.n_leapfrog, self.step_size, self.target_acceptance, self.seed)
        check_choice("mass", self.mass, get_args(Mass))
        check_count(low=0, n_jumps=self.n_jumps)
        if self.n_jumps and self.covariance == "neighbours":
            raise ValueError(f"`n_jumps` must be 0 with covariance='neighbours', got {self.n_jumps}; use 'bandwidth'")


# Section 5 and the published code, with the density of the paper and a correct acceptance step.
PUBLISHED = Settings(
    centroids="published",
    n_centroids=100,
    temperature="published",
    temperature_scale=1.0,
    n_transitions=100,
    n_leapfrog=10,
    step_size=0.01,
    mass="unit",
    start="codes",
)
PRESETS: dict[str, Settings] = {
    "published": PUBLISHED,
    # The same trajectories as the published code, whose momentum has standard deviation 0.5 at unit mass: it settles at
    # the density to the power 4, and its step of 0.01 is one of 0.005 in units of that density.
    "published-code": replace(PUBLISHED, step_size=0.005, sharpness=4.0),
}


class RiemannianSampler(Sampler):
    """Samples from the Riemannian uniform density of a VAE's codes, as published unless told otherwise.

    An option that is None has the value of the preset or, without one, the default in brackets; a given value always
    wins over the preset.

    Args:
        preset: "published" (the paper's recipe: short random walks from the codes), "published-code" (with the sharper
            density its code really has), or none. Without a preset the metric covers the codes, and chains reach its
            density, which on real data is largest where most bumps overlap: they pile up where codes are densest.
        covariance: Sigma_i of Eq. 7: the "posterior" variances; the covariance of the nearest codes, "neighbours"; or
            their mean variance in all directions, a "bandwidth". The last two need no posterior variances. [posterior]
        centroids: which codes carry the metric: "kmeans", "all", "random", "first" or "published" (k-medoids). [kmeans]
        n_centroids: how many; all codes where there are fewer. [all codes, whatever `centroids` says, as in Eq. 7]
        temperature: rho, a positive number or a rule: "coverage", "likelihood" or "published". [coverage]
        coverage: the share of codes within rho of a centroid, for the rule "coverage". [0.5]
        temperature_scale: factor on the result of a rule; a number given as `temperature` is used as it is. [0.7]
        floor: lambda, the metric far from every centroid. [0.01]
        decay: tau, above 0 the floor fades as exp(-tau |z|^2); with 0 the density has no finite mass, and a chain that
            is long enough leaves the codes for the floor. [0]
        sharpness: power of the density: 1 is the paper's, 2 / d turns it into about a mixture of bumps. [1]
        start: where chains start: at random "codes", at random "centroids", or at random "covered" codes, those above
            the floor. On the floor the density is flat, and a chain that starts there walks away from the data.
            [covered]
        n_transitions: length of a chain. [5]
        n_leapfrog: leapfrog steps in a transition. [10]
        step_size: of the leapfrog. [found by dual averaging when fitting]
        target_acceptance: of the dual averaging. [0.8]
        mass: "posterior" scales each dimension by the mean variance of `covariance`, "unit" does not. [posterior]
        n_jumps: proposals between modes before each transition. They reach the density itself, which in many dimensions
            is largest where bumps overlap; short chains without jumps stay near the codes they start from. [0]
        seed: of the choice of centroids and the warm-up when fitting. [0]
    """

    diagnostics: ClassVar[Mapping[str, str]] = {
        **Sampler.diagnostics,
        **MOVEMENT,
        **MIXING,
        "codes_above_floor": "part of the training codes where the metric is not flat [part of 1]; higher is better",
    }

    def __init__(
        self,
        preset: Literal["published", "published-code"] | None = "published",
        covariance: Covariance | None = None,
        centroids: Centroids | None = None,
        n_centroids: int | None = None,
        temperature: float | Rule | None = None,
        coverage: float | None = None,
        temperature_scale: float | None = None,
        floor: float | None = None,
        decay: float | None = None,
        sharpness: float | None = None,
        start: Start | None = None,
        n_transitions: int | None = None,
        n_leapfrog: int | None = None,
        step_size: float | None = None,
        target_acceptance: float | None = None,
        mass: Mass | None = None,
        n_jumps: int | None = None,
        seed: int | None = None,
    ) -> None:
        """Resolve the preset and check the ranges."""
        given = {name: value for name, value in locals().items() if name in SETTING_NAMES and value is not None}
        if preset is not None:
            check_choice("preset", preset, PRESETS)
        settings = replace(PRESETS[preset] if preset else Settings(), **given)
        if settings.centroids == "all" or settings.n_centroids is None:  # the same choice: recorded in one form
            settings = replace(settings, centroids="all", n_centroids=None)
        self.preset, self.settings = preset, settings
        self.needs_log_var = settings.covariance == "posterior"

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's options, resolved: given back to the constructor, they build the same sampler."""
        return {"preset": self.preset, **asdict(self.settings)}

    def _fit(self, codes: Codes) -> None:
        """Build the metric from `codes`, measure its coverage, and find the step size."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        self._dtype = codes.mu.dtype  # samples keep this type even where the metric needs float64
        self.metric, exclude = build_metric(codes, self.settings)
        if estimate_rounding(self.metric) > MOST_ROUNDING:
            codes = Codes(codes.mu.double(), None if codes.log_var is None else codes.log_var.double())
            self.metric, exclude = build_metric(codes, self.settings)
        measured = subsample_evenly(len(codes.mu), MEASURED)
        self.fraction_above_floor = fraction_above_floor(self.metric, codes.mu[measured], exclude=exclude[measured])
        if self.preset is None:  # the published recipe is a random walk by design
            warn_if_flat(self.fraction_above_floor, self.metric)
        self._start_points = self._choose_start_points(codes.mu)
        self.kernel = self._build_kernel(codes.mu, generator)

    def _build_kernel(self, mu: Tensor, generator: torch.Generator) -> Kernel:
        settings, metric = self.settings, self.metric
        log_density = VolumeDensity(metric, settings.sharpness)
        inverse_mass = torch.ones_like(metric.centroids[0])
        if settings.mass == "posterior":
            diagonal = metric.values.ndim == 2
            variances = 1 / metric.values if diagonal else torch.linalg.inv(metric.values).diagonal(dim1=1, dim2=2)
            inverse_mass = local_inverse_mass(variances)
        if settings.step_size is not None:
            parameters = Parameters(settings.step_size, settings.n_leapfrog, inverse_mass)
        else:
            # Where the density is flat every step is accepted: a step stays below the spread of the codes.
            largest = float((mu.std(0, correction=0) / inverse_mass.sqrt()).max())
            start = self._draw_starts(WARM_UP_CHAINS, generator)
            parameters = warm_up(
                start,
                log_density,
                n_leapfrog=settings.n_leapfrog,
                inverse_mass=inverse_mass,
                generator=generator,
                target=settings.target_acceptance,
                largest_step=max(largest, 1e-6),
                restart_every=max(settings.n_transitions, 1),  # a chain of the sampler is this long
            )[0]
        bumps = BumpMixture(metric, settings.sharpness) if settings.n_jumps else None
        return Kernel(log_density, parameters, bumps, settings.n_jumps)

    def _choose_start_points(self, mu: Tensor) -> Tensor:
        if self.settings.start == "codes":
            return mu
        covered = mu[above_floor(self.metric, mu)]  # the force is zero elsewhere: a chain that starts there walks away
        return self.metric.centroids if self.settings.start == "centroids" or not len(covered) else covered

    def _draw_starts(self, n: int, generator: torch.Generator) -> Tensor:
        points = self._start_points
        index = torch.randint(len(points), (n,), generator=generator, device=generator.device)
        return points[index.to(points.device)]

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        return self._run_from(self._draw_starts(n, generator), generator)

    @full_precision()
    def sample_from(
        self, start: Tensor, generator: torch.Generator, *, return_info: bool = False
    ) -> Tensor | tuple[Tensor, SampleInfo]:
        """Return the last states (n, d) of chains that begin at the points `start` (n, d); otherwise as `sample`."""
        self._check_ready(len(start))
        if start.ndim != 2 or start.shape[1] != self.metric.d:
            raise ValueError(f"`start` must have shape (n, {self.metric.d}), got {tuple(start.shape)}")
        check_finite(start=start)
        z, describe = self._run_from(start, generator)
        return (z, describe()) if return_info else z

    def _run_from(self, start: Tensor, generator: torch.Generator) -> Drawn:
        start = start.to(self.metric.centroids.dtype)  # the metric may be float64 where the codes are float32
        trace = run_chains(start, self.kernel, self.settings.n_transitions, generator)
        return trace.position.to(self._dtype), lambda: self._describe(start, trace, generator)

    def _describe(self, start: Tensor, trace: Trace, generator: torch.Generator) -> SampleInfo:
        numbers = describe_movement(start, trace, self.kernel.parameters.step_size, self.metric, self._novelty)
        numbers |= {"codes_above_floor": self.fraction_above_floor, **self._probe_mixing(generator)}
        warn_if_still(numbers)
        chains = {
            "acceptance": trace.acceptance,
            "diverged": trace.diverged,
            "moved": (trace.position - start).norm(dim=1),
            "log_density": trace.log_density,
        }
        return SampleInfo(numbers, chains)

    def _probe_mixing(self, generator: torch.Generator) -> dict[str, float]:
        """Run groups of chains that start at the same code: nested R-hat needs them to judge short chains."""
        start = self._draw_starts(SUPERCHAINS, generator).repeat_interleave(CHAINS_PER_SUPER, dim=0)
        trace = run_chains(start, self.kernel, self.settings.n_transitions, generator, keep=True)
        return describe_mixing(trace, SUPERCHAINS)


SETTING_NAMES = tuple(Settings.__dataclass_fields__)


def estimate_rounding(metric: LatentMetric) -> float:
    """Return how much rounding may change an exponent of Eq. 7: much where posteriors are narrow beside the codes."""
    away, values = metric.centroids - metric.centroids.mean(0), metric.values
    squares = (
        (values * away.square()).sum(1)
        if values.ndim == 2
        else torch.einsum("kd,kde,ke->k", away.abs(), values.abs(), away.abs())
    )
    return float(squares.max()) / metric.temperature**2 * torch.finfo(squares.dtype).eps


def build_metric(codes: Codes, settings: Settings) -> tuple[LatentMetric, Tensor]:
    """Return the metric of Eq. 7 for codes (n, d), and which centroid each code is (n,), or -1."""
    k = min(settings.n_centroids or 1, len(torch.unique(codes.mu, dim=0)))  # images that stand twice have one code
    indices = choose_centroids(codes, settings.centroids, k, seed=settings.seed)
    exclude = torch.full((len(codes.mu),), -1, dtype=torch.long, device=indices.device)
    # A code that is a centroid is at distance 0 from itself, which would count as covered.
    exclude[indices] = torch.arange(len(indices), device=indices.device)
    chosen = select_codes(codes, indices)
    if settings.covariance == "posterior":
        assert chosen.log_var is not None
        values = (-chosen.log_var).exp()
    else:
        values = local_precisions(codes.mu, indices, settings.covariance)
    temperature = resolve_temperature(codes, chosen.mu, values, exclude, settings)
    metric = LatentMetric(chosen.mu, values, temperature=temperature, floor=settings.floor, decay=settings.decay)
    return metric, exclude


def resolve_temperature(codes: Codes, centroids: Tensor, values: Tensor, exclude: Tensor, settings: Settings) -> float:
    """Return rho: the number given, or the result of the rule times `temperature_scale`.

    Arguments: codes (n, d), centroids (k, d), their inverse variances (k, d) or covariances (k, d, d), which centroid
    each code is (n,) or -1.
    """
    measured = subsample_evenly(len(codes.mu), MEASURED)
    z, exclude = codes.mu[measured], exclude[measured]
    rule = settings.temperature
    if not isinstance(rule, str):
        return float(rule)
    if rule == "published":
        rho = published_temperature(centroids)
    elif rule == "coverage":
        rho = coverage_temperature(z, centroids, values, coverage=settings.coverage, exclude=exclude)
    else:
        rho = likelihood_temperature(z, centroids, values, sharpness=settings.sharpness, exclude=exclude)
    return rho * settings.temperature_scale


def subsample_evenly(n: int, most: int) -> Tensor:
    """Return `most` indices at even distances in 0..n-1, or all."""
    # No random numbers: a refit measures the same codes.
    return torch.arange(n) if n <= most else torch.linspace(0, n - 1, most).round().long()
