"""Curves between latent points: the interpolation of Eq. 12 and geodesics, minimised over discretised curves.

A curve is (b, m, d): m points of b curves. With h_j = gamma_{j+1} - gamma_j and midpoints g_j,
length (Eq. 4) `sum_j sqrt(h_j^T G(g_j) h_j)`, energy `(m - 1) sum_j h_j^T G(g_j) h_j`, and Eq. 12
`sum_j |h_j| / sqrt(det G(g_j))`, its integral over arc length, which does not change when the curve is run differently.

The exponential map, where the geodesic from z with velocity v is at time 1, follows Hamilton's equations of
`H(z, p) = p^T G^-1(z) p / 2`, p = G v: `dz/dt = G^-1 p`, `dp/dt = -dH/dz`, by fourth-order Runge-Kutta.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from geovae.checks import check_finite
from geovae.devices import full_precision


class SquaredNorm(Protocol):
    """What lengths need of a metric, differentiable in the point."""

    def squared_norm(self, z: Tensor, v: Tensor) -> Tensor:
        """Return v^T G(z) v: (n, d), (n, d) -> (n,)."""


class CometricNorm(SquaredNorm, Protocol):
    """What the exponential map needs besides."""

    def cosquared_norm(self, z: Tensor, p: Tensor) -> Tensor:
        """Return p^T G(z)^-1 p: (n, d), (n, d) -> (n,)."""


class SmoothMetric(SquaredNorm, Protocol):
    """What Eq. 12 needs besides."""

    def log_volume(self, z: Tensor) -> Tensor:
        """Return log sqrt det G(z): (n, d) -> (n,)."""


def straight(start: Tensor, end: Tensor, n_points: int = 50) -> Tensor:
    """Return the affine interpolations (b, m, d) from start (b, d) to end (b, d), Eq. 11."""
    if start.shape != end.shape or start.ndim != 2:
        raise ValueError(f"`start` and `end` must both be (b, d), got {tuple(start.shape)} and {tuple(end.shape)}")
    if n_points < 2:
        raise ValueError(f"`n_points` must be at least 2, got {n_points}")
    check_finite(start=start, end=end)
    t = torch.linspace(0, 1, n_points, dtype=start.dtype, device=start.device).view(1, -1, 1)
    return torch.lerp(start.unsqueeze(1), end.unsqueeze(1), t)


def segment_energies(metric: SquaredNorm, curves: Tensor) -> Tensor:
    """Return h^T G h at the midpoints of the segments: (b, m, d) -> (b, m - 1)."""
    steps, middles = curves.diff(dim=1), (curves[:, 1:] + curves[:, :-1]) / 2
    return metric.squared_norm(middles.flatten(0, 1), steps.flatten(0, 1)).unflatten(0, steps.shape[:2])


def curve_lengths(metric: SquaredNorm, curves: Tensor) -> Tensor:
    """Return the Riemannian lengths (b,) of curves (b, m, d), Eq. 4."""
    return segment_energies(metric, curves).clamp_min(0).sqrt().sum(1)


def curve_energies(metric: SquaredNorm, curves: Tensor) -> Tensor:
    """Return the energies (b,): at least length^2, and equal to it at constant speed."""
    return (curves.shape[1] - 1) * segment_energies(metric, curves).sum(1)


def log_inverse_volumes(metric: SmoothMetric, curves: Tensor) -> Tensor:
    """Return the logarithm of Eq. 12's integral (b,), over arc length."""
    steps, middles = curves.diff(dim=1), (curves[:, 1:] + curves[:, :-1]) / 2
    volumes = metric.log_volume(middles.flatten(0, 1)).unflatten(0, steps.shape[:2])
    # A segment of length 0 would have an infinite gradient.
    lengths = (steps.square().sum(2) + torch.finfo(curves.dtype).tiny).sqrt()
    return torch.logsumexp(lengths.log() - volumes, dim=1)


def interpolate(
    metric: SmoothMetric,
    start: Tensor,
    end: Tensor,
    *,
    initial: Tensor | None = None,
    n_points: int = 50,
    **options: Any,
) -> Tensor:
    """Return the curves (b, m, d) from start (b, d) to end (b, d) that minimise Eq. 12: they keep to the data.

    Points are at equal Euclidean distances. The search begins at the straight lines, where it may end in a poor local
    minimum, and at `initial` (b, m, d) where given, for instance `volume_paths`; of the two, the curve of less cost
    is returned. `options` as in `minimise`.
    """
    starts = [straight(start, end, n_points)]
    if initial is not None:
        starts.append(smooth(_from(initial, start, end, n_points)))
    found = minimise(lambda c: log_inverse_volumes(metric, c) + _evenness(c), torch.cat(starts), **options)
    curves = resample(found, n_points)
    with torch.no_grad():
        costs = log_inverse_volumes(metric, curves).view(len(starts), -1)
    return curves.unflatten(0, costs.shape)[costs.argmin(0), torch.arange(costs.shape[1])]


@full_precision()
def geodesics(
    metric: SmoothMetric,
    start: Tensor,
    end: Tensor,
    *,
    initial: Tensor | None = None,
    n_points: int = 50,
    **options: Any,
) -> Tensor:
    """Return the curves (b, m, d) from start (b, d) to end (b, d) of least energy, hence length, near `initial`.

    `initial` (b, m, d), for instance a shortest path over a graph, chooses among several local geodesics; the straight
    line is the default. The logarithm of the energy is minimised, so that a step does not depend on the metric's scale.
    `options` as in `minimise`.
    """
    curves = straight(start, end, n_points) if initial is None else _from(initial, start, end, n_points)
    return minimise(lambda c: curve_energies(metric, c).log(), curves, **options)


def _from(initial: Tensor, start: Tensor, end: Tensor, n_points: int) -> Tensor:
    """Return curves (b, n_points, d) to begin at, once their ends are those that were asked for."""
    check_finite(initial=initial)
    ends = torch.stack([start, end], dim=1)
    if initial.ndim != 3 or initial.shape[::2] != start.shape or not torch.equal(initial[:, [0, -1]], ends):
        raise ValueError(
            f"`initial` must be (b, m, d) with `start` {tuple(start.shape)} and `end` as its ends, got "
            f"{tuple(initial.shape)}"
        )
    return resample(initial, n_points)


@full_precision()
def minimise(
    objective: Callable[[Tensor], Tensor], curves: Tensor, *, n_steps: int = 300, n_waves: int = 12, rate: float = 0.05
) -> Tensor:
    """Return curves (b, m, d) with the ends of `curves` and a small `objective` (b,), never above the initial one.

    The displacement is a sum of `n_waves` sines, the a-th divided by a: a smooth basis in which a plain gradient step
    reaches far. Adam works per coordinate, so that a curve does not depend on the others of its batch.
    """
    b, m, d = curves.shape
    waves = min(n_waves, m - 2)
    if waves < 1:
        return curves
    basis = _sines(m, waves, curves)
    size = (curves[:, -1] - curves[:, 0]).norm(dim=1).clamp_min(1e-12).view(b, 1, 1)  # a step is relative to the curve
    amplitudes = torch.zeros(b, waves, d, dtype=curves.dtype, device=curves.device, requires_grad=True)
    adam = torch.optim.Adam([amplitudes], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_steps, eta_min=1e-3 * rate)
    best, best_value = curves, objective(curves).detach()
    for _ in range(n_steps):
        moved = curves + size * (basis @ amplitudes)
        values = objective(moved)
        better = values.detach() < best_value
        # Adam may overshoot: the best curve is kept, not the last.
        best = torch.where(better.view(b, 1, 1), moved.detach(), best)
        best_value = torch.where(better, values.detach(), best_value)
        adam.zero_grad()
        values.sum().backward()  # curves do not depend on each other: one backward pass serves all
        adam.step()
        schedule.step()
    return best


def _sines(m: int, waves: int, like: Tensor) -> Tensor:
    t = torch.linspace(0, math.pi, m, dtype=like.dtype, device=like.device)
    a = torch.arange(1, waves + 1, dtype=like.dtype, device=like.device)
    basis = torch.sin(t.unsqueeze(1) * a) / a  # short waves move less in a step
    basis[0], basis[-1] = 0.0, 0.0  # the ends stay, to the last digit
    return basis


def smooth(curves: Tensor, n_waves: int = 12) -> Tensor:
    """Return curves (b, m, d) without corners: the first `n_waves` sines of their distance from the straight line."""
    b, m, d = curves.shape
    line = straight(curves[:, 0], curves[:, -1], m)
    if m < 3:
        return curves
    basis = _sines(m, min(n_waves, m - 2), curves)
    displacement = (curves - line).transpose(0, 1).reshape(m, b * d)
    amplitudes = torch.linalg.lstsq(basis, displacement).solution
    return line + (basis @ amplitudes).view(m, b, d).transpose(0, 1)


def _evenness(curves: Tensor) -> Tensor:
    """Return a small penalty (b,) on uneven steps, which Eq. 12 over arc length leaves free."""
    squares = curves.diff(dim=1).square().sum(2)
    return 0.1 * squares.var(1) / squares.mean(1).square().clamp_min(torch.finfo(curves.dtype).tiny)


def resample(curves: Tensor, n_points: int) -> Tensor:
    """Return the polylines (b, m, d) with `n_points` points at equal Euclidean distances along them."""
    travelled = torch.nn.functional.pad(curves.diff(dim=1).norm(dim=2).cumsum(1), (1, 0))
    total = travelled[:, -1:]
    t = torch.linspace(0, 1, n_points, dtype=curves.dtype, device=curves.device)
    wanted = (t * total).contiguous()  # searchsorted copies others, and warns
    right = torch.searchsorted(travelled.contiguous(), wanted).clamp(1, curves.shape[1] - 1)
    before, after = travelled.gather(1, right - 1), travelled.gather(1, right)
    share = ((wanted - before) / (after - before).clamp_min(torch.finfo(curves.dtype).tiny)).unsqueeze(2)
    index = right.unsqueeze(2).expand(-1, -1, curves.shape[2])
    points = torch.lerp(curves.gather(1, index - 1), curves.gather(1, index), share.clamp(0, 1))
    return torch.cat([curves[:, :1], points[:, 1:-1], curves[:, -1:]], dim=1)


@full_precision()
def exponential_map(metric: CometricNorm, z: Tensor, v: Tensor, *, n_steps: int = 100) -> Tensor:
    """Return the geodesics (n, n_steps + 1, d) from z (n, d) with initial velocity v (n, d), at times 0..1.

    The last point is exp_z(v). The speed sqrt(v^T G v) is constant along each: check it when in doubt about `n_steps`.
    """
    if z.shape != v.shape or z.ndim != 2:
        raise ValueError(f"`z` and `v` must both be (n, d), got {tuple(z.shape)} and {tuple(v.shape)}")
    if n_steps < 1:
        raise ValueError(f"`n_steps` must be at least 1, got {n_steps}")
    check_finite(z=z, v=v)
    u = v.detach().requires_grad_()
    with torch.enable_grad():  # G v is the gradient of v^T G v / 2
        p = torch.autograd.grad((metric.squared_norm(z, u) / 2).sum(), u)[0]
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
    z, p = z.detach().requires_grad_(), p.detach().requires_grad_()  # no graph from stage to stage
    with torch.enable_grad():
        energy = metric.cosquared_norm(z, p).sum() / 2
    dz, dp = torch.autograd.grad(energy, (z, p))
    return dp, -dz
