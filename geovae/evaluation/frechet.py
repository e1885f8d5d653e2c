"""Frechet distance between Gaussians fitted to two feature sets (Heusel et al. 2017, arXiv 1706.08500, Eq. 6).

d^2 = |mu_1 - mu_2|^2 + tr(S_1) + tr(S_2) - 2 tr sqrt(S_1 S_2), in float64 throughout, never through a matrix
square root: with S = A^T A the last trace is the sum of the singular values of A_1 A_2^T.
"""

import math

import torch
from torch import Tensor

from geovae.evaluation.matrices import Matrix, check_pair, gram
from geovae.evaluation.statistics import Statistics


def frechet(*, real: Matrix, fake: Matrix) -> dict[str, float]:
    """Return {"frechet": d^2} of feature matrices `real` (n, dims) and `fake` (m, dims), at least 2 rows each.

    The value is biased upwards for small n (Chong & Forsyth 2020, arXiv 1911.07023): compare equal n only.
    """
    real, fake = check_pair(real, fake)
    mean_x, mean_y = (m.mean(dim=0, dtype=torch.float64) for m in (real, fake))
    factor_x = real.double().sub(mean_x).div_(math.sqrt(len(real) - 1))
    factor_y = fake.double().sub(mean_y).div_(math.sqrt(len(fake) - 1))
    traces = factor_x.square().sum() + factor_y.square().sum()
    cross = trace_sqrt_product(factor_x, factor_y)
    return {"frechet": _distance(mean_x - mean_y, traces, cross)}


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Return d^2 of two sets of `Statistics` (means (dims,), covariances (dims, dims)), as pytorch-fid does."""
    if a.mu.shape != b.mu.shape:
        raise ValueError(f"statistics of different widths do not compare: {len(a.mu)} and {len(b.mu)} features")
    if a.extractor and b.extractor and a.extractor != b.extractor:
        raise ValueError(f"statistics of different extractors do not compare: {a.extractor} and {b.extractor}")
    cross = _trace_sqrt_covariances(a.sigma, b.sigma)
    return _distance(a.mu - b.mu, a.sigma.trace() + b.sigma.trace(), cross)


def trace_sqrt_product(a: Tensor, b: Tensor) -> Tensor:
    """Return tr sqrt(A^T A B^T B) for factors `a` (n, dims) and `b` (m, dims), in the cheapest exact way.

    Few rows: the n x m singular values. More rows than columns on both sides: through the covariances.
    """
    dims = a.shape[1]
    if len(a) > dims and len(b) > dims:
        return _trace_sqrt_covariances(gram(a), gram(b))
    a, b = (torch.linalg.qr(f, mode="r").R if len(f) > dims else f for f in (a, b))
    return torch.linalg.svdvals(a @ b.T).sum()


def _trace_sqrt_covariances(s1: Tensor, s2: Tensor) -> Tensor:
    """tr sqrt(S_1 S_2) = sum sqrt(eig(L^T S_2 L)) with S_1 = L L^T; an eigenvalue root where Cholesky fails."""
    lower, info = torch.linalg.cholesky_ex(s1)
    if int(info) != 0:
        values, vectors = torch.linalg.eigh(s1)
        root = vectors * values.clamp(min=0).sqrt()
        product = root.T @ s2 @ root
    else:
        product = _congruence(lower, s2)
    return torch.linalg.eigvalsh(product).clamp(min=0).sqrt().sum()


def _congruence(lower: Tensor, s: Tensor) -> Tensor:
    """L^T S L; LAPACK makes only the lower triangle of it, which is all that `eigvalsh` reads."""
    if s.device.type != "cpu":
        return lower.T @ s @ lower
    from scipy.linalg.lapack import dsygst

    return torch.from_numpy(dsygst(s.numpy(), lower.numpy(), itype=2, lower=1)[0])


def _distance(difference: Tensor, traces: Tensor, cross: Tensor) -> float:
    # the true value is never negative: what lies below zero is rounding
    return max(0.0, float(difference.square().sum() + traces - 2 * cross))
