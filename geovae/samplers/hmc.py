"""Hamiltonian Monte Carlo on any batched log-density (Neal 2011), and its step size by dual averaging.

`H(z, p) = -log pi(z) + p^T M^-1 p / 2` with p ~ N(0, M); a proposal is accepted with probability exp(min(0, H_0 - H)).
Dual averaging (Hoffman & Gelman 2014, Section 3.2), in warm-up only: `log step_{m+1} = mu - sqrt(m) / gamma * Hbar_m`,
`Hbar_m` the damped mean of target - acceptance; the result is the mean of the log steps with weights m^-kappa.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from geovae.checks import check_count, check_positive, check_seed

LogDensity = Callable[[Tensor], tuple[Tensor, Tensor]]
"""z (n, d) -> log pi(z) (n,) up to a constant and its gradient (n, d)."""

DIVERGENCE = 1000.0
"""An energy error above this, or one that is not a number, counts as a divergence and is rejected."""

T0, GAMMA, KAPPA = 10.0, 0.05, 0.75  # of dual averaging, as in the paper


class State(NamedTuple):
    """Positions (n, d), log-density (n,) and its gradient (n, d): the force at the end starts the next step."""

    position: Tensor
    log_density: Tensor
    gradient: Tensor


class Info(NamedTuple):
    """One transition, all (n,): acceptance probability, whether accepted, diverged, energy H and its error."""

    acceptance: Tensor
    accepted: Tensor
    diverged: Tensor
    energy: Tensor
    energy_error: Tensor


class Parameters(NamedTuple):
    """The leapfrog's step size, its number of steps, and M^-1 by dimension (d,): at best the target's variances."""

    step_size: float
    n_leapfrog: int
    inverse_mass: Tensor


def init_state(position: Tensor, log_density: LogDensity) -> State:
    """Return the state at `position` (n, d)."""
    return State(position, *log_density(position))


def leapfrog(state: State, momentum: Tensor, log_density: LogDensity, parameters: Parameters) -> tuple[State, Tensor]:
    """Return the state and momentum (n, d) after `n_leapfrog` steps, with one gradient for each step."""
    step_size, n_leapfrog, inverse_mass = parameters
    position, log_p, gradient = state
    momentum = torch.add(momentum, gradient, alpha=0.5 * step_size)
    for i in range(n_leapfrog):
        position = torch.addcmul(position, momentum, inverse_mass, value=step_size)
        log_p, gradient = log_density(position)
        last = i == n_leapfrog - 1  # two half steps of the momentum between positions are one whole step
        momentum = momentum.add_(gradient, alpha=0.5 * step_size if last else step_size)
    return State(position, log_p, gradient), momentum


def compute_energy(state: State, momentum: Tensor, inverse_mass: Tensor) -> Tensor:
    """Return H (n,)."""
    return 0.5 * (momentum * momentum * inverse_mass).sum(1) - state.log_density


def transition(
    state: State, noise: Tensor, uniform: Tensor, log_density: LogDensity, parameters: Parameters
) -> tuple[State, Info]:
    """Return the next state, decided by `noise` (n, d), standard normal, and `uniform` (n,) in [0, 1).

    The noise is an argument, so that a transition can be repeated, tested and compared between devices. A density that
    has a transition of its own for so many chains (one kernel of a GPU, geovae/samplers/volume.py) is asked for it.
    """
    launch = find_launch(log_density, len(noise))
    if launch is not None:
        return launch(state, noise, uniform, parameters)
    inverse_mass = parameters.inverse_mass
    momentum = noise * inverse_mass.rsqrt()
    before = compute_energy(state, momentum, inverse_mass)
    proposal, momentum = leapfrog(state, momentum, log_density, parameters)
    error = compute_energy(proposal, momentum, inverse_mass) - before
    diverged = ~(error <= DIVERGENCE)  # NaN diverges too
    log_ratio = torch.where(diverged, -torch.inf, -error).clamp(max=0.0)
    accepted = uniform.log() < log_ratio
    state = select_accepted(accepted, proposal, state)
    final = before + torch.where(accepted, error, 0.0)
    return state, Info(log_ratio.exp(), accepted, diverged, final, error)


def find_launch(log_density: LogDensity, n: int) -> Callable[..., tuple[State, Info]] | None:
    """Return the transition of n chains that a density has of its own, or None."""
    launch = getattr(log_density, "launch", None)
    return None if launch is None else launch(n)


def select_accepted(accepted: Tensor, proposal: State, state: State) -> State:
    """Return the proposal where `accepted` (n,), else the old state."""
    column = accepted.unsqueeze(1)
    return State(
        torch.where(column, proposal.position, state.position),
        torch.where(accepted, proposal.log_density, state.log_density),
        torch.where(column, proposal.gradient, state.gradient),
    )


def draw_noise(like: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the noise (n, d) and uniforms (n,) of one transition, on the device and in the type of `like` (n, d)."""
    n, d = like.shape
    noise = torch.randn(n, d, generator=generator, device=generator.device, dtype=like.dtype)
    uniform = torch.rand(n, generator=generator, device=generator.device, dtype=like.dtype)
    return noise.to(like.device), uniform.to(like.device)


class DualAveraging(NamedTuple):
    """State of the averaging: transitions so far, Hbar, log of the current and of the averaged step, and mu."""

    n_done: int
    error: float
    log_step: float
    log_average: float
    anchor: float


def start_averaging(step_size: float) -> DualAveraging:
    """Return the state before the first transition; anchored at 10 times its step size, as in the paper."""
    return DualAveraging(0, 0.0, math.log(step_size), 0.0, math.log(10 * step_size))


def update_averaging(
    state: DualAveraging, acceptance: float, target: float, largest: float = math.inf
) -> DualAveraging:
    """Return the state after a transition with mean `acceptance`; the log step stays below `largest`."""
    m = state.n_done + 1
    error = (1 - 1 / (m + T0)) * state.error + (target - acceptance) / (m + T0)
    log_step = min(state.anchor - math.sqrt(m) / GAMMA * error, largest)
    share = m**-KAPPA  # later steps weigh more: the first ones are far from the target
    return DualAveraging(m, error, log_step, share * log_step + (1 - share) * state.log_average, state.anchor)


def warm_up(
    position: Tensor,
    log_density: LogDensity,
    *,
    n_leapfrog: int,
    inverse_mass: Tensor,
    generator: torch.Generator,
    n_transitions: int = 60,
    target: float = 0.8,
    largest_step: float = 1e3,
    restart_every: int = 60,
) -> tuple[Parameters, State]:
    """Return parameters whose mean acceptance over the chains (n, d) is about `target`, and the last state.

    `largest_step` limits the step size: where the density is flat, every step is accepted. After `restart_every`
    transitions the chains return to `position`: short chains stay near their start, and the step size must suit that
    region.
    """
    state = beginning = init_state(position, log_density)
    first = min(find_first_step(state, log_density, inverse_mass, generator), largest_step)
    adaptation = start_averaging(first)
    for i in range(n_transitions):
        state = beginning if i % restart_every == 0 else state
        parameters = Parameters(math.exp(adaptation.log_step), n_leapfrog, inverse_mass)
        state, info = transition(state, *draw_noise(position, generator), log_density, parameters)
        adaptation = update_averaging(adaptation, float(info.acceptance.mean()), target, math.log(largest_step))
    return Parameters(math.exp(adaptation.log_average), n_leapfrog, inverse_mass), state


def find_first_step(state: State, log_density: LogDensity, inverse_mass: Tensor, generator: torch.Generator) -> float:
    """Return the largest power of 2 (at most 2^10) whose single leapfrog step is accepted half of the time."""
    noise, uniform = draw_noise(state.position, generator)
    step = 1.0

    def acceptance(step: float) -> float:
        info = transition(state, noise, uniform, log_density, Parameters(step, 1, inverse_mass))[1]
        return float(info.acceptance.mean())

    # The limits end the search where no step, or every step, is accepted.
    while acceptance(step) < 0.5 and step > 2**-40:
        step /= 2
    while acceptance(2 * step) >= 0.5 and step < 2**10:
        step *= 2
    return step


def local_inverse_mass(variances: Tensor) -> Tensor:
    """Return M^-1 (d,): the mean of `variances` (k, d) over the centroids, scaled to a geometric mean of 1."""
    mean = variances.mean(0)
    return mean / torch.exp(mean.log().mean())  # so that the step size keeps its meaning


def check_chains(
    n_transitions: int, n_leapfrog: int, step_size: float | None, target_acceptance: float, seed: int
) -> None:
    """Raise a ValueError unless the options that samplers with chains share are in their ranges."""
    check_count(low=0, n_transitions=n_transitions)
    check_count(n_leapfrog=n_leapfrog)
    check_seed(seed)
    if step_size is not None:
        check_positive(step_size=step_size)
    if not 0 < target_acceptance < 1:
        raise ValueError(f"`target_acceptance` must lie in (0, 1), got {target_acceptance}")
