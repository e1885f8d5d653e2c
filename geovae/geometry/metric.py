"""`LatentMetric`: a Riemannian metric on the latent space from centroids (Chadebec & Allassonnière 2022, Eq. 7).

The field `F(z) = sum_i V_i w_i(z) + lambda exp(-tau |z|^2) I`, `w_i(z) = exp(-dist_i(z)^2 / rho^2)`, is either the
metric G itself (Eq. 7: V_i = Sigma_i^-1, Mahalanobis distances) or its inverse, the cometric (RHVAE: V_i = L_i L_i^T,
Euclidean distances). `grad log sqrt det F = sum_i w_i tr(F^-1 V_i) / 2 * grad log w_i
- tau lambda exp(-tau |z|^2) tr(F^-1) z`: four matrix products, and no (n, k, d) array.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

from geovae.checks import check_choice, check_count, check_finite, check_not_negative, check_positive
from geovae.devices import keep_precision
from geovae.geometry.fields import (
    Algebra,
    DiagonalAlgebra,
    DiagonalFeatures,
    EuclideanFeatures,
    Features,
    Forms,
    FullAlgebra,
    FullFeatures,
    scratch,
)

# Weights below exp(-CUT) count as zero: exp never produces a denormal number, which is 10 to 100 times slower.
CUT = {torch.float32: 60.0, torch.float64: 600.0}
# Numbers in one block of the (n, k) weights: small enough for a CPU's cache, large enough to fill a GPU.
CHUNK_ELEMENTS = {"cpu": 2**19, "cuda": 2**28}
# Blocks of weights are kept for the gradient up to 64 blocks (on a CPU 128 MiB), and beyond that computed twice.
KEPT_BLOCKS = {"cpu": 64, "cuda": 1}
FULL_ROWS = 512  # points in a block that make its products as fast as they get


class Block(NamedTuple):
    """Some of the centroids: log2 of their weights as forms, the slopes +-M / 2 (k, f) of log w, and flat values."""

    log2_weights: Forms
    slopes: Tensor
    flat: Tensor
    flat_t: Tensor

    def part(self, start: int, stop: int) -> "Block":
        """Return the centroids from `start` to `stop`."""
        rows = slice(start, stop)
        forms = Forms(*(t[:, rows] for t in self.log2_weights))
        return Block(forms, self.slopes[rows], self.flat[rows], self.flat_t[:, rows])


class Limits(NamedTuple):
    """Where numbers stop: |z - origin| at `box`, log2 of a weight at `log2_cut`, and weights up to `least` are 0."""

    box: float
    log2_cut: float
    least: float


class LatentMetric:
    """A metric on a d-dimensional latent space from k centroids.

    Args:
        centroids: (k, d), float32 or float64; everything is computed in this type and on this device.
        values: V_i, (k, d) diagonals (for Eq. 7 the inverse variances) or (k, d, d) symmetric positive matrices.
        temperature: rho > 0, how far a centroid reaches, in units of its distance.
        floor: lambda > 0, the value of the field far from every centroid.
        decay: tau >= 0; above 0 the floor fades as exp(-tau |z|^2), which makes the volume of a metric finite.
        weights: "mahalanobis", distances in V_i, or "euclidean".
        tensor: what the field is: the "metric" G (Eq. 7) or the "cometric" G^-1 (RHVAE).
        chunk_elements: numbers in the largest temporary; it changes memory and speed, not results.
    """

    def __init__(
        self,
        centroids: Tensor,
        values: Tensor,
        *,
        temperature: float,
        floor: float,
        decay: float = 0.0,
        weights: Literal["mahalanobis", "euclidean"] = "mahalanobis",
        tensor: Literal["metric", "cometric"] = "metric",
        chunk_elements: int | None = None,
    ) -> None:
        """Check the arguments and precompute the linear forms of the exponents."""
        _check_tensors(centroids, values)
        _check_numbers(temperature, floor, decay, chunk_elements, centroids.dtype)
        check_choice("weights", weights, ("mahalanobis", "euclidean"))
        check_choice("tensor", tensor, ("metric", "cometric"))
        self.centroids, self.values = centroids.detach(), values.detach()
        self.temperature, self.floor, self.decay = float(temperature), float(floor), float(decay)
        self.weights, self.tensor, self.chunk_elements = weights, tensor, chunk_elements
        self._prepare()

    def _prepare(self) -> None:
        c, values = self.centroids, self.values
        self._cut = CUT[c.dtype]
        self._origin = c.mean(0)  # distances from far-away centroids would lose their digits
        self._features: Features = EuclideanFeatures()
        if self.weights == "mahalanobis":
            self._features = DiagonalFeatures() if values.ndim == 2 else FullFeatures()
        self._algebra: Algebra = DiagonalAlgebra() if values.ndim == 2 else FullAlgebra(self.d)
        forms = self._features.forms(c - self._origin, values).times(self.temperature**-2)
        slopes = (0.5 * self._sign * forms.linear.T).contiguous()
        flat = values.flatten(1)  # diagonals (k, d) and matrices (k, d * d) go through the same products
        self._all = Block(forms.times(math.log2(math.e)), slopes, flat, flat.T.contiguous())
        self._least = 1.001 * math.exp(-self._cut)  # a little above exp(-cut): rounding must not keep a clamped weight
        self._constant_floor = c.new_full((1, 1), self.floor)
        largest, f = torch.finfo(c.dtype).max, len(forms.linear) + 1
        steepest = max(*(float(t.abs().max()) for t in self._all.log2_weights), 1.0)
        # Beyond this box every weight is zero already; inside it no square overflows.
        self._box = math.sqrt(largest / (16 * f * steepest))
        self._largest_inverse = largest / (16 * f * max(float(values.abs().max()), 1.0))
        self._inverse_is_bounded = not self.decay and 1 / self.floor <= self._largest_inverse  # then no clamp is needed
        self._chunk, self._kept, self._rows = self._budget()
        if not (math.isfinite(steepest) and self._box > 1e3 * float((c - self._origin).abs().max())):
            raise ValueError(
                f"`values` and `temperature` = {self.temperature:g} overflow {c.dtype}: the largest value over "
                f"temperature^2 is {steepest:g}; use float64 or a larger temperature"
            )

    @property
    def k(self) -> int:
        """The number of centroids."""
        return self.centroids.shape[0]

    @property
    def d(self) -> int:
        """The latent dimension."""
        return self.centroids.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """float32 or float64."""
        return self.centroids.dtype

    @property
    def device(self) -> torch.device:
        """Where the metric lives."""
        return self.centroids.device

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Return the same metric on another device or in another type."""
        return type(self)(
            self.centroids.to(device, dtype),
            self.values.to(device, dtype),
            temperature=self.temperature,
            floor=self.floor,
            decay=self.decay,
            weights=self.weights,
            tensor=self.tensor,
            chunk_elements=self.chunk_elements,
        )

    @keep_precision
    def log_volume(self, z: Tensor) -> Tensor:
        """Return log sqrt det G at z: (n, d) -> (n,). Differentiable in z."""
        self._check_points(z)
        return torch.cat([self._log_volume(x) for x in z.split(self._rows)]) if len(z) else z.sum(1)

    @keep_precision
    @torch.no_grad()
    def log_volume_and_grad(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return log sqrt det G (n,) and its gradient (n, d) in closed form, several times faster than autograd."""
        self._check_points(z)
        rows = self._rows
        if len(z) <= rows:
            return self._log_volume_and_grad(z)
        volume, grad = z.new_empty(len(z)), torch.empty_like(z)
        for start in range(0, len(z), rows):
            part = slice(start, start + rows)
            volume[part], grad[part] = self._log_volume_and_grad(z[part])
        return volume, grad

    @keep_precision
    def metric_matrix(self, z: Tensor) -> Tensor:
        """Return G: (n, d) -> (n, d, d). Differentiable in z."""
        flat = self._field(z)
        return self._algebra.matrix(flat if self.tensor == "metric" else self._inverse(flat))

    @keep_precision
    def cometric_matrix(self, z: Tensor) -> Tensor:
        """Return G^-1: (n, d) -> (n, d, d). Differentiable in z."""
        flat = self._field(z)
        return self._algebra.matrix(flat if self.tensor == "cometric" else self._inverse(flat))

    @keep_precision
    def squared_norm(self, z: Tensor, v: Tensor) -> Tensor:
        """Return `v^T G(z) v` (n,) for tangent vectors v (n, d). Differentiable in both."""
        flat = self._field(z)
        return (v * self._algebra.apply(flat if self.tensor == "metric" else self._inverse(flat), v)).sum(1)

    @keep_precision
    def cosquared_norm(self, z: Tensor, p: Tensor) -> Tensor:
        """Return `p^T G(z)^-1 p` (n,) for cotangent vectors p (n, d). Differentiable in both."""
        flat = self._field(z)
        return (p * self._algebra.apply(flat if self.tensor == "cometric" else self._inverse(flat), p)).sum(1)

    def floor_log_volume(self, z: Tensor) -> Tensor:
        """Return what log sqrt det G (n,) would be at z (n, d) without any centroid."""
        return self._sign * 0.5 * self.d * self._log_floor(z).squeeze(1)

    @keep_precision
    def centroid_weights(self, z: Tensor) -> Tensor:
        """Return w_i(z): (n, d) -> (n, k), the only public (n, k) array. Differentiable in z."""
        self._check_points(z)
        return self._weights(self._features(self._boxed(z)), self._all)

    @property
    def terms(self) -> Block:
        """What its centroids add to it, for a kernel that computes it elsewhere: about `origin`, within `limits`."""
        return self._all

    @property
    def origin(self) -> Tensor:
        """The point (d,) that `terms` are about."""
        return self._origin

    @property
    def limits(self) -> Limits:
        """Where its numbers stop."""
        return Limits(self._box, -self._cut * math.log2(math.e), self._least)

    @property
    def inverse_is_bounded(self) -> bool:
        """Whether 1 / floor is small enough that no sum overflows."""
        return self._inverse_is_bounded

    @property
    def _sign(self) -> int:
        return 1 if self.tensor == "metric" else -1

    def _boxed(self, z: Tensor) -> Tensor:
        x = z - self._origin
        return x.clamp(-self._box, self._box) if z.requires_grad else x.clamp_(-self._box, self._box)

    def _log_floor(self, z: Tensor) -> Tensor:
        inside = z.clamp(-self._box, self._box)
        return math.log(self.floor) - self.decay * (inside * inside).sum(1, keepdim=True)

    def _floor(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return f and log f, (n, 1), or (1, 1) and nothing where f is a constant that cannot underflow.

        f stops a little below the smallest weight so that 1 / f is finite.
        """
        if not self.decay:
            return self._constant_floor, None
        log_floor = self._log_floor(z)
        return log_floor.clamp_min(-1.1 * self._cut).exp(), log_floor

    def _weights(self, phi: Tensor, block: Block, out: Tensor | None = None) -> Tensor:
        """Return w (n, k of the block) at the features phi (n, f); in `out` where given."""
        exponent = block.log2_weights(phi, out)
        # A denormal number is slow: clamp the exponent first, and set the clamped weights to 0 after.
        low = -self._cut * math.log2(math.e)
        high = 0.0 if self.values.ndim == 3 else None  # rounding of a nearly singular form may pass above 0
        if phi.requires_grad:
            return torch.threshold(exponent.clamp(low, high).exp2(), self._least, 0.0)
        return torch.threshold_(exponent.clamp_(low, high).exp2_(), self._least, 0.0)

    def _budget(self) -> tuple[int, int, int]:
        """Return the numbers of one block, and of all the blocks that are kept, and how many points go together."""
        block = self.chunk_elements or CHUNK_ELEMENTS.get(self.device.type, CHUNK_ELEMENTS["cpu"])
        kept = block * (1 if self.chunk_elements else KEPT_BLOCKS.get(self.device.type, 1))
        widest = max(self.k, len(self._all.log2_weights.linear))
        # at least 16 points, so that the products stay products of matrices
        return block, kept, max(block // widest, min(FULL_ROWS, kept // widest), 16)

    def _blocks(self, n: int) -> list[Block]:
        columns = max(self._chunk // max(n, 1), 1)
        if columns >= self.k:
            return [self._all]
        return [self._all.part(start, start + columns) for start in range(0, self.k, columns)]

    def _summed(self, phi: Tensor, buffers: Sequence[Tensor | None] | None = None) -> Tensor:
        """Return `sum_i V_i w_i` flat (n, m); the weights of each block are written to its buffer, if given."""
        blocks, total = self._blocks(len(phi)), None
        for block, buffer in zip(blocks, buffers or [None] * len(blocks), strict=True):
            w = self._weights(phi, block, buffer)
            total = w @ block.flat if total is None else torch.addmm(total, w, block.flat)
        assert total is not None
        return total

    def _log_volume(self, z: Tensor) -> Tensor:
        summed = self._summed(self._features(self._boxed(z)))
        return self._sign * 0.5 * self._algebra.log_det(summed, *self._floor(z))

    def _log_volume_and_grad(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x = self._boxed(z)
        phi = self._features(x)
        blocks, n = self._blocks(len(z)), len(z)
        columns = [len(block.flat) for block in blocks]
        keep = n * self.k <= self._kept  # the weights are needed twice: before and after the inverse
        buffers = scratch("weights", z, n, columns) if keep else [scratch("weights", z, n, [k])[0] for k in columns]
        summed = self._summed(phi, buffers)
        floor, log_floor = self._floor(z)
        volume, inverse = self._algebra.log_det_and_inverse(summed, floor, log_floor)
        if not self._inverse_is_bounded:
            inverse.clamp_(max=self._largest_inverse)
        forms = None
        for block, w in zip(blocks, buffers, strict=True):
            if not keep:
                self._weights(phi, block, w)
            (buffer,) = scratch("traces", z, n, [len(block.flat)])
            traces = torch.mm(inverse, block.flat_t, out=buffer).mul_(w)
            forms = traces @ block.slopes if forms is None else forms.addmm_(traces, block.slopes)
        assert forms is not None
        grad = self._features.pull(x, forms)
        if self.decay:
            slope = self._sign * self.decay * floor * self._algebra.trace(inverse)
            grad -= slope * z.clamp(-self._box, self._box)
        return volume.mul_(0.5 * self._sign), grad

    def _field(self, z: Tensor) -> Tensor:
        self._check_points(z)
        parts = []
        for x in z.split(self._rows):
            summed = self._summed(self._features(self._boxed(x)))
            parts.append(self._algebra.plus_floor(summed, self._floor(x)[0]))
        return torch.cat(parts)

    def _inverse(self, flat: Tensor) -> Tensor:
        if self.values.ndim == 2:
            return flat.reciprocal()
        return torch.cholesky_inverse(torch.linalg.cholesky(self._algebra.matrix(flat))).flatten(1)

    def _check_points(self, z: Tensor) -> None:
        if z.ndim != 2 or z.shape[1] != self.d:
            raise ValueError(f"`z` must have shape (n, {self.d}), got {tuple(z.shape)}")
        if z.dtype != self.dtype:
            raise ValueError(f"`z` must be {self.dtype} like the centroids, got {z.dtype}")


def _check_tensors(centroids: Tensor, values: Tensor) -> None:
    """Raise unless centroids (k, d) and values (k, d) or (k, d, d) are finite, of one type and positive."""
    if centroids.ndim != 2 or 0 in centroids.shape:
        raise ValueError(f"`centroids` must be a non-empty (k, d) tensor, got shape {tuple(centroids.shape)}")
    k, d = centroids.shape
    if tuple(values.shape) not in ((k, d), (k, d, d)):
        raise ValueError(
            f"`values` must have shape ({k}, {d}) or ({k}, {d}, {d}) like `centroids`, got {tuple(values.shape)}"
        )
    if centroids.dtype not in CUT or values.dtype != centroids.dtype or values.device != centroids.device:
        raise ValueError(
            "`centroids` and `values` must both be float32 or both float64, on one device, "
            f"got {centroids.dtype} on {centroids.device} and {values.dtype} on {values.device}"
        )
    check_finite(centroids=centroids)
    if not torch.isfinite(values).all():
        raise ValueError("`values` must be finite, got NaN or infinity (a variance of 0?)")
    if values.ndim == 2 and not (values >= 0).all():
        raise ValueError(f"`values` must not be negative, got {float(values.min()):g}")
    if values.ndim == 3:
        _check_symmetric_positive(values)


def _check_symmetric_positive(values: Tensor) -> None:
    tolerance = 1e-4 * float(values.abs().max())
    if float((values - values.mT).abs().max()) > tolerance:
        raise ValueError("`values` (k, d, d) must be symmetric matrices")
    lowest = float(torch.linalg.eigvalsh(values).min())
    if lowest < -tolerance:
        raise ValueError(f"`values` (k, d, d) must be positive semi-definite, got an eigenvalue of {lowest:g}")


def _check_numbers(
    temperature: float, floor: float, decay: float, chunk_elements: int | None, dtype: torch.dtype
) -> None:
    """Raise unless every number is in its range for the type."""
    check_positive(temperature=temperature, floor=floor)
    check_not_negative(decay=decay)
    if floor < math.exp(-CUT[dtype]):
        raise ValueError(f"`floor` must be at least {math.exp(-CUT[dtype]):.1g} in {dtype}, got {floor:g}")
    if chunk_elements is not None:
        check_count(chunk_elements=chunk_elements)
