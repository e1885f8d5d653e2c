"""The halves of a latent tensor field `sum_i V_i w_i(z) + f(z) I`: the weights' exponents, the values' algebra.

Every exponent is affine in a few features of z, `log w_i(z) = M_i . phi(z) + m_i`, so that the exponents of n points
and k centroids are one matrix product and never an (n, k, d) array:
Mahalanobis, diagonal: phi = (z^2, z); Mahalanobis, full: phi = (vec z z^T, z); Euclidean: phi = (|z|^2, z).
"""

import threading
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor


class Forms(NamedTuple):
    """k affine forms on f features: `linear` M^T (f, k) and `constant` m (1, k)."""

    linear: Tensor
    constant: Tensor

    def __call__(self, phi: Tensor, out: Tensor | None = None) -> Tensor:
        """Return their values (n, k) at the features phi (n, f), in `out` where given."""
        return torch.addmm(self.constant, phi, self.linear, out=out)

    def times(self, factor: float) -> "Forms":
        """Return the forms times a number."""
        return Forms(self.linear * factor, self.constant * factor)


def _forms(*parts: Tensor) -> Forms:
    """Return forms from coefficients (k, f_1), (k, f_2), ... and, last, the constant (k, 1)."""
    return Forms(torch.cat(parts[:-1], dim=1).T.contiguous(), parts[-1].T.contiguous())


class DiagonalFeatures:
    """`(z - c)^T diag(v) (z - c)` through phi = (z^2, z)."""

    def forms(self, centroids: Tensor, values: Tensor) -> Forms:
        """Return the forms that are minus the squared distances of z to the k centroids; values (k, d)."""
        vc = values * centroids
        return _forms(-values, 2 * vc, -(vc * centroids).sum(1, keepdim=True))

    def __call__(self, z: Tensor) -> Tensor:
        """Return (z^2, z), (n, 2 d)."""
        return torch.cat([z * z, z], dim=1)

    def pull(self, z: Tensor, forms: Tensor) -> Tensor:
        """Return the gradient in z of `forms . phi(z)`: (n, d), (n, f) -> (n, d)."""
        square, linear = forms.chunk(2, dim=1)
        return torch.addcmul(linear, z, square, value=2)


class FullFeatures:
    """`(z - c)^T V (z - c)` through phi = (vec z z^T, z)."""

    def forms(self, centroids: Tensor, values: Tensor) -> Forms:
        """Return minus the squared distances as forms; values (k, d, d)."""
        vc = (values @ centroids.unsqueeze(2)).squeeze(2)
        return _forms(-values.flatten(1), 2 * vc, -(vc * centroids).sum(1, keepdim=True))

    def __call__(self, z: Tensor) -> Tensor:
        """Return (vec z z^T, z), (n, d^2 + d)."""
        return torch.cat([(z.unsqueeze(2) * z.unsqueeze(1)).flatten(1), z], dim=1)

    def pull(self, z: Tensor, forms: Tensor) -> Tensor:
        """Return the gradient in z of `forms . phi(z)`: (n, d), (n, f) -> (n, d)."""
        n, d = z.shape
        square = forms[:, : d * d].view(n, d, d)
        return ((square + square.mT) @ z.unsqueeze(2)).squeeze(2) + forms[:, d * d :]


class EuclideanFeatures:
    """`|z - c|^2` through phi = (|z|^2, z)."""

    def forms(self, centroids: Tensor, values: Tensor) -> Forms:
        """Return minus the squared distances as forms; `values` are not used."""
        squared = (centroids * centroids).sum(1, keepdim=True)
        return _forms(-torch.ones_like(squared), 2 * centroids, -squared)

    def __call__(self, z: Tensor) -> Tensor:
        """Return (|z|^2, z), (n, 1 + d)."""
        return torch.cat([(z * z).sum(1, keepdim=True), z], dim=1)

    def pull(self, z: Tensor, forms: Tensor) -> Tensor:
        """Return the gradient in z of `forms . phi(z)`: (n, d), (n, f) -> (n, d)."""
        return torch.addcmul(forms[:, 1:], z, forms[:, :1], value=2)


Features = DiagonalFeatures | FullFeatures | EuclideanFeatures
"""A feature map phi, and the affine forms on it that give log w_i."""


class DiagonalAlgebra:
    """Diagonal tensors, (n, d)."""

    def log_det(self, summed: Tensor, floor: Tensor, log_floor: Tensor | None) -> Tensor:
        """Return `log det(S + f I)` (n,) of S (n, m) and f (n, 1); with log f (n, 1) also where f underflows."""
        if log_floor is None:
            return (summed + floor).log().sum(1)
        covered = summed > 0  # elsewhere only the floor is left, whose logarithm is known without underflow
        inside = torch.where(covered, summed, 1.0) + floor
        return torch.where(covered, inside.log(), log_floor).sum(1)

    def log_det_and_inverse(self, summed: Tensor, floor: Tensor, log_floor: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return `log det(S + f I)` (n,) and the flat inverse; not differentiable."""
        field = summed + floor
        log_det = field.log().sum(1) if log_floor is None else self.log_det(summed, floor, log_floor)
        return log_det, field.reciprocal_()

    def trace(self, flat: Tensor) -> Tensor:
        """Return the trace (n, 1)."""
        return flat.sum(1, keepdim=True)

    def matrix(self, flat: Tensor) -> Tensor:
        """Return (n, d, d)."""
        return torch.diag_embed(flat)

    def plus_floor(self, summed: Tensor, floor: Tensor) -> Tensor:
        """Return `S + f I`, flat."""
        return summed + floor

    def apply(self, flat: Tensor, v: Tensor) -> Tensor:
        """Return the tensors times the vectors v (n, d)."""
        return flat * v


class FullAlgebra:
    """Symmetric positive definite tensors, (n, d * d)."""

    def __init__(self, d: int) -> None:
        self.d = d

    def _cholesky(self, summed: Tensor, floor: Tensor) -> Tensor:
        return torch.linalg.cholesky_ex(self.matrix(self.plus_floor(summed, floor)))[0]

    def log_det(self, summed: Tensor, floor: Tensor, log_floor: Tensor | None) -> Tensor:
        """Return `log det(S + f I)` (n,); where only the floor is left, d times its logarithm."""
        if log_floor is None:
            return _log_det(self._cholesky(summed, floor))
        covered = (summed != 0).any(1)
        safe = torch.where(covered.unsqueeze(1), floor, 1.0)
        return torch.where(covered, _log_det(self._cholesky(summed, safe)), self.d * log_floor.squeeze(1))

    def log_det_and_inverse(self, summed: Tensor, floor: Tensor, log_floor: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return `log det(S + f I)` (n,) and the flat inverse; not differentiable."""
        lower = self._cholesky(summed, floor)
        log_det = _log_det(lower) if log_floor is None else self.log_det(summed, floor, log_floor)
        return log_det, invert_factored(lower).flatten(1)

    def trace(self, flat: Tensor) -> Tensor:
        """Return the trace (n, 1)."""
        return self.matrix(flat).diagonal(dim1=1, dim2=2).sum(1, keepdim=True)

    def matrix(self, flat: Tensor) -> Tensor:
        """Return (n, d, d)."""
        return flat.unflatten(1, (self.d, self.d))

    def plus_floor(self, summed: Tensor, floor: Tensor) -> Tensor:
        """Return `S + f I`, flat."""
        identity = torch.eye(self.d, dtype=summed.dtype, device=summed.device).flatten()
        return summed + floor * identity

    def apply(self, flat: Tensor, v: Tensor) -> Tensor:
        """Return the tensors times the vectors v (n, d)."""
        return (self.matrix(flat) @ v.unsqueeze(2)).squeeze(2)


Algebra = DiagonalAlgebra | FullAlgebra
"""What differs between diagonal (n, d) and full (n, d * d) tensors, both kept flat."""


def invert_factored(lower: Tensor) -> Tensor:
    """Return the inverses (n, d, d) of the matrices with Cholesky factors (n, d, d).

    By a triangular solve: torch.cholesky_inverse of a batch asks the host on a GPU, and cannot be recorded there.
    """
    identity = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device)
    half = torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False)
    return half.mT @ half


def _log_det(lower: Tensor) -> Tensor:
    """Return the log-determinants (n,) of the matrices with Cholesky factors (n, d, d)."""
    return 2 * lower.diagonal(dim1=1, dim2=2).log().sum(1)


class _Buffers(threading.local):
    # On a CPU, fresh pages can cost as much as the arithmetic on them.
    def __init__(self) -> None:
        self.by_name: dict[tuple[str, torch.dtype], Tensor] = {}


_BUFFERS = _Buffers()


def scratch(name: str, like: Tensor, rows: int, columns: Sequence[int]) -> list[Tensor]:
    """Return uninitialised matrices (rows, c), one for each c, of the type and on the device of `like`.

    They are valid until this thread calls `scratch` again with the same name and dtype. On a CPU each thread keeps its
    largest buffer: two threads may compute gradients at once. A GPU's allocator caches memory itself.
    """
    size = rows * sum(columns)
    buffer = _BUFFERS.by_name.get((name, like.dtype)) if like.device.type == "cpu" else like.new_empty(size)
    if buffer is None or len(buffer) < size:
        with torch.inference_mode(False):  # outside that mode its tensors could not be written to
            buffer = _BUFFERS.by_name[name, like.dtype] = torch.empty(size, dtype=like.dtype)
    starts = accumulate(columns, initial=0)
    return [buffer.as_strided((rows, c), (c, 1), rows * start) for c, start in zip(columns, starts, strict=False)]
