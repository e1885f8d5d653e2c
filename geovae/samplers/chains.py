"""Many short chains side by side: HMC transitions, optionally each after jumps, and what they record."""

from dataclasses import dataclass

import torch
from torch import Tensor

from geovae.samplers.hmc import LogDensity, Parameters, draw, init, transition
from geovae.samplers.jumps import BumpMixture, draw_jump, jump


@dataclass(frozen=True)
class Kernel:
    """One transition of every chain: `n_jumps` jumps between the bumps (0: none), then HMC."""

    log_density: LogDensity
    parameters: Parameters
    bumps: BumpMixture | None = None
    n_jumps: int = 0


@dataclass(frozen=True)
class Trace:
    """What chains did: final positions (n, d), their log-density (n,), means over the transitions, and histories.

    `acceptance`, `jumped` are means (n,); `diverged` counts (n,); `energies` is (t, n); `positions` (t, n, d) and
    `log_densities` (t, n) are kept on request only.
    """

    position: Tensor
    log_density: Tensor
    acceptance: Tensor
    jumped: Tensor
    diverged: Tensor
    energies: Tensor
    positions: Tensor | None
    log_densities: Tensor | None


@torch.no_grad()
def run(
    position: Tensor, kernel: Kernel, n_transitions: int, generator: torch.Generator, *, keep: bool = False
) -> Trace:
    """Run the chains from `position` (n, d); `keep` every position for R-hat and the effective sample size."""
    n = len(position)
    state = init(position, kernel.log_density)
    acceptance, jumped = (torch.zeros(n, dtype=position.dtype, device=position.device) for _ in range(2))
    diverged = torch.zeros(n, dtype=torch.long, device=position.device)
    energies, positions, log_densities = [], [], []
    for _ in range(n_transitions):
        for _ in range(kernel.n_jumps if kernel.bumps is not None else 0):
            assert kernel.bumps is not None
            state, moved = jump(state, *draw_jump(n, kernel.bumps, generator), kernel.log_density, kernel.bumps)
            jumped += moved
        noise = draw(position, generator)
        state, info = transition(state, *noise, kernel.log_density, kernel.parameters)
        acceptance += info.acceptance
        diverged += info.diverged
        energies.append(info.energy)
        if keep:
            positions.append(state.position)
            log_densities.append(state.log_density)
    steps = max(n_transitions, 1)
    return Trace(
        state.position,
        state.log_density,
        acceptance / steps,
        jumped / max(steps * kernel.n_jumps, 1),
        diverged,
        torch.stack(energies) if energies else position.new_zeros(0, n),
        torch.stack(positions) if positions else position.new_zeros(0, *position.shape) if keep else None,
        torch.stack(log_densities) if log_densities else position.new_zeros(0, n) if keep else None,
    )
