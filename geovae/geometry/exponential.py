"""The exponential map: where the geodesic from z with velocity v is at time 1, by Hamilton's equations.

`H(z, p) = p^T G^-1(z) p / 2`, p = G v, `dz/dt = G^-1 p`, `dp/dt = -dH/dz`; fourth-order Runge-Kutta. No Christoffel
symbol is formed: one backward pass a stage.
"""

from typing import Protocol

import torch
from torch import Tensor

from geovae.checks import check_finite


class CometricNorm(Protocol):
    """What the exponential map needs of a metric."""

    def cosquared_norm(self, z: Tensor, p: Tensor) -> Tensor:
        """Return p^T G(z)^-1 p: (n, d), (n, d) -> (n,)."""

    def squared_norm(self, z: Tensor, v: Tensor) -> Tensor:
        """Return v^T G(z) v: (n, d), (n, d) -> (n,)."""


def exponential_map(metric: CometricNorm, z: Tensor, v: Tensor, *, n_steps: int = 100) -> Tensor:
    """Return the geodesics (n, n_steps + 1, d) from z (n, d) with initial velocity v (n, d), at times 0..1.

    The last point is exp_z(v). The speed sqrt(v^T G v) is constant along each: check it when in doubt about `n_steps`.
    """
    if z.shape != v.shape or z.ndim != 2:
        raise ValueError(f"`z` and `v` must both be (n, d), got {tuple(z.shape)} and {tuple(v.shape)}")
    if n_steps < 1:
        raise ValueError(f"`n_steps` must be at least 1, got {n_steps}")
    check_finite(z=z, v=v)
    p = _gradient(lambda u: metric.squared_norm(z, u) / 2, v)  # G v
    points = [z]
    for _ in range(n_steps):
        z, p = _runge_kutta(metric, z, p, 1 / n_steps)
        points.append(z)
    return torch.stack(points, dim=1)


def _runge_kutta(metric: CometricNorm, z: Tensor, p: Tensor, h: float) -> tuple[Tensor, Tensor]:
    z1, p1 = _flow(metric, z, p)
    z2, p2 = _flow(metric, z + h / 2 * z1, p + h / 2 * p1)
    z3, p3 = _flow(metric, z + h / 2 * z2, p + h / 2 * p2)
    z4, p4 = _flow(metric, z + h * z3, p + h * p3)
    return z + h / 6 * (z1 + 2 * z2 + 2 * z3 + z4), p + h / 6 * (p1 + 2 * p2 + 2 * p3 + p4)


def _flow(metric: CometricNorm, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Return dz/dt and dp/dt: the gradients of H."""
    z, p = z.detach().requires_grad_(), p.detach().requires_grad_()
    with torch.enable_grad():
        energy = metric.cosquared_norm(z, p).sum() / 2
    dz, dp = torch.autograd.grad(energy, (z, p))
    return dp, -dz


def _gradient(function, at: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    at = at.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(function(at).sum(), at)[0]
