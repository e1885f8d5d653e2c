"""Hamiltonian Monte Carlo on any batched log-density (Neal 2011; leapfrog, one chain a row).

`H(z, p) = -log pi(z) + p^T M^-1 p / 2` with p ~ N(0, M); a proposal is accepted with probability exp(min(0, H_0 - H)).
Three things stay apart: `State` (where a chain is), `Info` (what a transition did), `Parameters` (how it moves).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

LogDensity = Callable[[Tensor], tuple[Tensor, Tensor]]
"""z (n, d) -> log pi(z) (n,) up to a constant and its gradient (n, d)."""

DIVERGENCE = 1000.0
"""An energy error above this, or one that is not a number, counts as a divergence and is rejected."""


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
    """The leapfrog step, its number, and M^-1 per dimension (d,), about the variances of the target."""

    step_size: float
    n_leapfrog: int
    inverse_mass: Tensor


def init(position: Tensor, log_density: LogDensity) -> State:
    """Return the state at `position` (n, d)."""
    return State(position, *log_density(position))


def leapfrog(state: State, momentum: Tensor, log_density: LogDensity, parameters: Parameters) -> tuple[State, Tensor]:
    """Return the state and momentum (n, d) after `n_leapfrog` steps: one gradient a step."""
    step_size, n_leapfrog, inverse_mass = parameters
    position, log_p, gradient = state
    momentum = torch.add(momentum, gradient, alpha=0.5 * step_size)
    for i in range(n_leapfrog):
        position = torch.addcmul(position, momentum, inverse_mass, value=step_size)
        log_p, gradient = log_density(position)
        last = i == n_leapfrog - 1
        momentum = momentum.add_(gradient, alpha=0.5 * step_size if last else step_size)
    return State(position, log_p, gradient), momentum


def energy(state: State, momentum: Tensor, inverse_mass: Tensor) -> Tensor:
    """Return H (n,)."""
    return 0.5 * (momentum * momentum * inverse_mass).sum(1) - state.log_density


def transition(
    state: State, noise: Tensor, uniform: Tensor, log_density: LogDensity, parameters: Parameters
) -> tuple[State, Info]:
    """Return the next state: deterministic in `noise` (n, d) standard normal and `uniform` (n,) in [0, 1)."""
    inverse_mass = parameters.inverse_mass
    momentum = noise * inverse_mass.rsqrt()
    before = energy(state, momentum, inverse_mass)
    proposal, momentum = leapfrog(state, momentum, log_density, parameters)
    error = energy(proposal, momentum, inverse_mass) - before
    diverged = ~(error <= DIVERGENCE)  # NaN diverges too
    log_ratio = torch.where(diverged, -torch.inf, -error).clamp(max=0.0)
    accepted = uniform.log() < log_ratio
    state = select(accepted, proposal, state)
    final = before + torch.where(accepted, error, 0.0)
    return state, Info(log_ratio.exp(), accepted, diverged, final, error)


def select(accepted: Tensor, proposal: State, state: State) -> State:
    """Return the proposal where `accepted` (n,), else the old state."""
    column = accepted.unsqueeze(1)
    return State(
        torch.where(column, proposal.position, state.position),
        torch.where(accepted, proposal.log_density, state.log_density),
        torch.where(column, proposal.gradient, state.gradient),
    )


def draw(like: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the noise (n, d) and uniforms (n,) of one transition, on the device and in the type of `like` (n, d)."""
    n, d = like.shape
    noise = torch.randn(n, d, generator=generator, device=generator.device, dtype=like.dtype)
    uniform = torch.rand(n, generator=generator, device=generator.device, dtype=like.dtype)
    return noise.to(like.device), uniform.to(like.device)
