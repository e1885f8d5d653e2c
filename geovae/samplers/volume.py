"""The density `sqrt(det G)^power` of a latent metric, and HMC transitions on it in one kernel of a GPU.

The kernel (Triton) holds the chains of a block on the chip: for each leapfrog step it passes over the centroids twice,
once for `S = sum_i w_i V_i`, once for the gradient (geometry/metric.py), and writes only the next state. The plain path
is the reference: float32 in both, so that draws agree to rounding until a chain's acceptance is a near tie.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from geovae.geometry.metric import LatentMetric
from geovae.samplers.hmc import DIVERGENCE, Info, Parameters, State
from geovae.samplers.volume_kernel import transition_kernel

Launch = Callable[[State, Tensor, Tensor, Parameters], tuple[State, Info]]
MOST_DIMENSIONS = 128  # of a kernel that keeps its chains in registers
MANY = 4096  # chains that fill a GPU with larger blocks
SMALL = 2**14  # centroids times dimensions up to which the kernel is faster than cuBLAS's products
SMALL_BLOCKS = {"ROWS": 16, "COLUMNS": 16, "PRECISION": "ieee", "num_warps": 4}
MANY_BLOCKS = {"ROWS": 64, "COLUMNS": 32, "PRECISION": "tf32x3", "num_warps": 4}


class SlowerWarning(UserWarning):
    """Draws take longer here than elsewhere, and are the same."""


@dataclass(frozen=True)
class VolumeDensity:
    """`power * log sqrt det G(z)` and its gradient, as HMC needs them."""

    metric: LatentMetric
    power: float = 1.0

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-density (n,) and its gradient (n, d) at z (n, d)."""
        volume, gradient = self.metric.log_volume_and_grad(z)
        return (volume, gradient) if self.power == 1 else (volume.mul_(self.power), gradient.mul_(self.power))

    def launch(self, n: int) -> Launch | None:
        """Return a function like `hmc.transition` for n chains in one kernel, or None where the plain is better."""
        return None if self._fused is None or self._fused.choose_blocks(n) is None else self._fused

    @cached_property
    def _fused(self) -> "FusedTransition | None":
        if self.metric.device.type != "cuda" or not fuses(self.metric):
            return None
        fused = FusedTransition(self.metric, self.power)
        return fused if works(fused) else None


def fuses(metric: LatentMetric) -> bool:
    """Return whether the kernel fits: Eq. 7 with diagonal variances and a constant floor, in float32."""
    of_kind = metric.values.ndim == 2 and metric.weights == "mahalanobis" and metric.tensor == "metric"
    plain = metric.dtype == torch.float32 and not metric.decay and metric.inverse_is_bounded
    return transition_kernel is not None and of_kind and plain and metric.d <= MOST_DIMENSIONS


def works(fused: "FusedTransition") -> bool:
    """Return whether the kernel compiles here: Triton needs a C compiler, and a GPU that it knows."""
    z = fused.origin.expand(16, -1).contiguous()
    state = State(z, z[:, 0].contiguous(), torch.zeros_like(z))
    try:
        fused(state, z, torch.full_like(state.log_density, 0.5), Parameters(1e-3, 1, torch.ones_like(z[0])))
    except Exception as error:  # whatever the cause, the plain path computes the same
        text = f"sampling without the fused kernel, which Triton cannot compile here: {error}"
        warnings.warn(text, SlowerWarning, stacklevel=2)
        return False
    return True


class FusedTransition:
    """HMC transitions on the volume of a metric in one kernel; `rows`, `columns`: chains and centroids of a block."""

    def __init__(self, metric: LatentMetric, power: float) -> None:
        """Lay out what the kernel reads."""
        terms = metric.terms
        self.flat, self.slopes, self.constant = terms.flat, terms.slopes, terms.log2_weights.constant.flatten()
        self.origin, self.limits = metric.origin, metric.limits
        self.floor, self.power, self.d = metric.floor, power, metric.d
        self.width = max(16, 1 << (self.d - 1).bit_length())  # the matrix units' smallest block
        self.tuning: dict[str, Any] = {}

    def __call__(self, state: State, noise: Tensor, uniform: Tensor, parameters: Parameters) -> tuple[State, Info]:
        """Return what `hmc.transition` returns."""
        n = len(noise)
        new = State(*(torch.empty_like(t) for t in state))
        info = Info(*(torch.empty_like(uniform, dtype=t) for t in (None, torch.bool, torch.bool, None, None)))
        tuning = (self.choose_blocks(n) or SMALL_BLOCKS) | self.tuning
        assert transition_kernel is not None
        transition_kernel[(-(-n // tuning["ROWS"]),)](
            *(t.contiguous() for t in (*state, noise, uniform)), *new, *info,
            self.flat, self.slopes, self.constant, parameters.inverse_mass.contiguous(), self.origin,
            n, len(self.flat), parameters.step_size, parameters.n_leapfrog,
            self.power, self.floor, *self.limits,
            DIVERGENCE=DIVERGENCE, D=self.d, WIDTH=self.width, **tuning,
        )  # fmt: skip
        return new, info

    def choose_blocks(self, n: int) -> dict[str, Any] | None:
        """Return the kernel's blocks for n chains, or None where cuBLAS is faster (measured on an H200)."""
        if len(self.flat) * self.width <= SMALL:
            columns = max(16, min(64, 2048 // self.width))  # what fits into the registers
            return SMALL_BLOCKS | {"ROWS": 16 if n < MANY else 32, "COLUMNS": columns}
        # Three products of TF32 parts have the digits of float32: the error beside float64 is no larger than with FMA.
        return MANY_BLOCKS if self.width == 16 and n >= 2 * MANY else None
