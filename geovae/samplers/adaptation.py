"""Step size by dual averaging (Hoffman & Gelman 2014, Section 3.2), during warm-up only.

`log step_{m+1} = mu - sqrt(m) / gamma * Hbar_m`, `Hbar_m` the damped mean of target - acceptance; the result is the
weighted mean of the iterates with weights m^-kappa.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from geovae.samplers.hmc import LogDensity, Parameters, State, draw, init, transition

T0, GAMMA, KAPPA = 10.0, 0.05, 0.75


class DualAveraging(NamedTuple):
    """The running numbers: iterations, Hbar, log of the current and of the averaged step, and their anchor."""

    n_done: int
    error: float
    log_step: float
    log_average: float
    anchor: float


def start(step_size: float) -> DualAveraging:
    """Return the state before any transition; the anchor is 10 times the first step, which favours large ones."""
    return DualAveraging(0, 0.0, math.log(step_size), 0.0, math.log(10 * step_size))


def update(state: DualAveraging, acceptance: float, target: float, largest: float = math.inf) -> DualAveraging:
    """Return the state after a transition with mean `acceptance`; the log step stays below `largest`."""
    m = state.n_done + 1
    error = (1 - 1 / (m + T0)) * state.error + (target - acceptance) / (m + T0)
    log_step = min(state.anchor - math.sqrt(m) / GAMMA * error, largest)
    share = m**-KAPPA
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

    Where the density is flat every step is accepted: `largest_step` ends the search. Chains go back to `position` every
    `restart_every` transitions, so that short chains are tuned for where they really are.
    """
    state = beginning = init(position, log_density)
    first = min(reasonable_step(state, log_density, inverse_mass, generator), largest_step)
    adaptation = start(first)
    for i in range(n_transitions):
        state = beginning if i % restart_every == 0 else state
        parameters = Parameters(math.exp(adaptation.log_step), n_leapfrog, inverse_mass)
        state, info = transition(state, *draw(position, generator), log_density, parameters)
        adaptation = update(adaptation, float(info.acceptance.mean()), target, math.log(largest_step))
    return Parameters(math.exp(adaptation.log_average), n_leapfrog, inverse_mass), state


def reasonable_step(state: State, log_density: LogDensity, inverse_mass: Tensor, generator: torch.Generator) -> float:
    """Return the largest power of 2 (at most 2^10) whose single leapfrog step is accepted half of the time."""
    noise, uniform = draw(state.position, generator)
    step = 1.0

    def acceptance(step: float) -> float:
        info = transition(state, noise, uniform, log_density, Parameters(step, 1, inverse_mass))[1]
        return float(info.acceptance.mean())

    while acceptance(step) < 0.5 and step > 2**-40:
        step /= 2
    while acceptance(2 * step) >= 0.5 and step < 2**10:
        step *= 2
    return step


def local_inverse_mass(variances: Tensor) -> Tensor:
    """Return M^-1 (d,) proportional to the mean variance per dimension of variances (k, d), of geometric mean 1."""
    mean = variances.mean(0)
    return mean / torch.exp(mean.log().mean())
