"""Many short chains side by side: HMC transitions, each after optional jumps between the modes, and their record.

Near an isolated centroid `sqrt(det G)^s` of Eq. 7 is a Gaussian `N(c_i, rho^2 / (d s) Sigma_i)`, and all these bumps
have the same volume. A jump proposes from their equal mixture q; z -> z' is accepted with probability
min(1, pi(z') q(z) / (pi(z) q(z'))), which keeps the target of HMC (Tierney 1994), so that the two can alternate.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from geovae.devices import full_precision
from geovae.geometry.fields import DiagonalFeatures, Forms
from geovae.geometry.metric import LatentMetric
from geovae.graphs import Recorder
from geovae.samplers.hmc import (
    Info,
    LogDensity,
    Parameters,
    State,
    draw_noise,
    find_launch,
    init_state,
    select_accepted,
    transition,
)

LEAST_TRANSITIONS = 4  # that make up for recording one


class BumpMixture:
    """The equal mixture of `N(c_i, scale^2 diag(1 / V_i))` over a diagonal metric's centroids."""

    def __init__(self, metric: LatentMetric, sharpness: float = 1.0, elements: int = 2**20) -> None:
        """Precompute the exponents' linear forms, as `LatentMetric` does."""
        if metric.values.ndim != 2 or metric.weights != "mahalanobis" or metric.tensor != "metric":
            raise ValueError("bumps have a closed form only for a diagonal Mahalanobis metric (Eq. 7)")
        self.scale = metric.temperature / math.sqrt(metric.d * sharpness)
        self.centroids, self.deviations = metric.centroids, self.scale * metric.values.rsqrt()
        self._origin = metric.centroids.mean(0)
        precisions = metric.values / (2 * self.scale**2)
        exponents = DiagonalFeatures().forms(metric.centroids - self._origin, precisions)
        # The density is normalised: the ratio of a jump compares it with pi.
        constant = math.log(metric.k) + 0.5 * metric.d * math.log(2 * math.pi)
        self._log_terms = Forms(exponents.linear, exponents.constant - self.deviations.log().sum(1) - constant)
        self._rows = max(elements // metric.k, 16)  # few enough points that the (n, k) block stays in the cache

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log q(z): (n, d) -> (n,)."""
        features = DiagonalFeatures()
        parts = (self._log_terms(features(x - self._origin)) for x in z.split(self._rows))
        return torch.cat([part.logsumexp(1) for part in parts])

    def draw(self, index: Tensor, noise: Tensor) -> Tensor:
        """Return the draws (n, d) of components `index` (n,) with standard normal `noise` (n, d)."""
        return self.centroids[index] + self.deviations[index] * noise


def jump(
    state: State, proposal: Tensor, uniform: Tensor, log_density: LogDensity, bumps: BumpMixture
) -> tuple[State, Tensor]:
    """Return the state after one jump to `proposal` (n, d), drawn from `bumps`, and which chains accepted it (n,)."""
    new = init_state(proposal, log_density)
    log_ratio = (new.log_density - bumps.log_prob(proposal)) - (state.log_density - bumps.log_prob(state.position))
    accepted = uniform.log() < log_ratio
    return select_accepted(accepted, new, state), accepted


def draw_jump(n: int, bumps: BumpMixture, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the proposals (n, d) of one jump and the uniforms (n,) that decide on their acceptance."""
    like, device = bumps.centroids, generator.device
    index = torch.randint(len(like), (n,), generator=generator, device=device)
    noise = torch.randn(n, like.shape[1], generator=generator, device=device, dtype=like.dtype)
    uniform = torch.rand(n, generator=generator, device=device, dtype=like.dtype)
    return bumps.draw(index.to(like.device), noise.to(like.device)), uniform.to(like.device)


@dataclass(frozen=True)
class Kernel:
    """One transition of every chain: `n_jumps` jumps between the bumps (0: none), then HMC."""

    log_density: LogDensity
    parameters: Parameters
    bumps: BumpMixture | None = None
    n_jumps: int = 0
    _recorders: dict[tuple[int, ...], Recorder] = field(default_factory=dict, repr=False, compare=False)

    def advance(self, state: State, noise: Tensor, uniform: Tensor, *, record: bool) -> tuple[State, Info]:
        """Return the state after a transition of HMC, with `record` one launch; valid until the next call."""
        step = self._recorder(tuple(noise.shape)) if record else self._step
        results = step(*state, noise, uniform)
        return State(*results[:3]), Info(*results[3:])

    def _recorder(self, shape: tuple[int, ...]) -> Recorder:
        if shape not in self._recorders:
            self._recorders.clear()  # a recording keeps its memory: one at a time
            plain = find_launch(self.log_density, shape[0]) is None  # else it is one kernel already
            self._recorders[shape] = Recorder(self._step, enabled=plain)
        return self._recorders[shape]

    def _step(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        state, noise, uniform = State(*tensors[:3]), *tensors[3:]
        after, info = transition(state, noise, uniform, self.log_density, self.parameters)
        return (*after, *info)


@dataclass(frozen=True)
class Trace:
    """The record of n chains over t transitions: final positions (n, d), their log-density (n,), means and histories.

    `acceptance` and `jumped` (n,) are means over transitions and jumps; `diverged` (n,) counts; `energies` is (t, n).
    `positions` (t, n, d) and `log_densities` (t, n) are recorded on request only: they can need much memory.
    """

    position: Tensor
    log_density: Tensor
    acceptance: Tensor
    jumped: Tensor
    diverged: Tensor
    energies: Tensor
    positions: Tensor | None
    log_densities: Tensor | None


@full_precision()
@torch.no_grad()
def run_chains(
    position: Tensor, kernel: Kernel, n_transitions: int, generator: torch.Generator, *, keep: bool = False
) -> Trace:
    """Run n chains from `position` (n, d); with `keep`, record every position, for R-hat and effective sample sizes."""
    n = len(position)
    state = init_state(position, kernel.log_density)
    acceptance, jumped = (torch.zeros(n, dtype=position.dtype, device=position.device) for _ in range(2))
    diverged = torch.zeros(n, dtype=torch.long, device=position.device)
    energies, positions, log_densities, record = [], [], [], n_transitions >= LEAST_TRANSITIONS
    for _ in range(n_transitions):
        for _ in range(kernel.n_jumps if kernel.bumps is not None else 0):
            assert kernel.bumps is not None
            state, moved = jump(state, *draw_jump(n, kernel.bumps, generator), kernel.log_density, kernel.bumps)
            jumped += moved
        state, info = kernel.advance(state, *draw_noise(position, generator), record=record)
        acceptance += info.acceptance
        diverged += info.diverged
        energies.append(info.energy.clone())
        if keep:
            positions.append(state.position.clone())
            log_densities.append(state.log_density.clone())
    steps = max(n_transitions, 1)  # chains of length 0 return their starts, with means of 0
    return Trace(
        state.position.clone(),
        state.log_density.clone(),
        acceptance / steps,
        jumped / max(steps * kernel.n_jumps, 1),
        diverged,
        torch.stack(energies) if energies else position.new_zeros(0, n),
        torch.stack(positions) if positions else position.new_zeros(0, *position.shape) if keep else None,
        torch.stack(log_densities) if log_densities else position.new_zeros(0, n) if keep else None,
    )
