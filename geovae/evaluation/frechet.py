"""Frechet distance between Gaussians fitted to two feature sets (Heusel et al. 2017, arXiv 1706.08500, Eq. 6).

d^2 = |mu_1 - mu_2|^2 + tr(S_1) + tr(S_2) - 2 tr sqrt(S_1 S_2), in float64 throughout, never through a matrix
square root: with S = A^T A the last trace is the sum of the singular values of A_1 A_2^T. The statistics (mu, S) are
read from and written to pytorch-fid's npz files.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geovae.evaluation.score import Number, Numbers, check_features, score
from geovae.files import atomic_path, read_npz
from geovae.neighbours import Matrix

ASYMMETRY = 1e-3  # of a covariance, as a share of its largest value: float32 statistics are below it
NEGATIVE = 1e-3  # the same of a negative eigenvalue


class Statistics(NamedTuple):
    """Mean `mu` (dims,) and covariance `sigma` (dims, dims), float64; `n` and `extractor` where they are known.

    pytorch-fid's own files hold neither `n` nor the extractor; files written here hold both beside them.
    """

    mu: Tensor
    sigma: Tensor
    n: int | None = None
    extractor: str | None = None


@score(
    {
        "frechet": Number(
            "Frechet distance of the features", "squared feature units", "lower", equal=0.0, names=("fid", "fd_{}")
        )
    },
    any_n=True,
)
def frechet(*, real: Tensor, fake: Tensor) -> Numbers:
    """Return {"frechet": d^2} of feature matrices `real` (n, dims) and `fake` (m, dims), at least 2 rows each.

    The value is biased upwards for small n (Chong & Forsyth 2020, arXiv 1911.07023): compare equal n
    only. More rows of `real` lessen the bias of all.
    """
    # float64 and centred factors: covariances of float32 features would lose the digits that the distance needs
    mean_x, mean_y = (m.mean(dim=0, dtype=torch.float64) for m in (real, fake))
    factor_x = real.double().sub(mean_x).div_(math.sqrt(len(real) - 1))
    factor_y = fake.double().sub(mean_y).div_(math.sqrt(len(fake) - 1))
    traces = factor_x.square().sum() + factor_y.square().sum()
    cross = _trace_sqrt_product(factor_x, factor_y)
    return {"frechet": _distance(mean_x - mean_y, traces, cross)}


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Return d^2 of two sets of `Statistics` (means (dims,), covariances (dims, dims)), as pytorch-fid does."""
    if a.mu.shape != b.mu.shape:
        raise ValueError(f"statistics of different widths do not compare: {len(a.mu)} and {len(b.mu)} features")
    if a.extractor and b.extractor and a.extractor != b.extractor:
        raise ValueError(f"statistics of different extractors do not compare: {a.extractor} and {b.extractor}")
    cross = _trace_sqrt_covariances(a.sigma, b.sigma)
    return _distance(a.mu - b.mu, a.sigma.trace() + b.sigma.trace(), cross)


def _trace_sqrt_product(a: Tensor, b: Tensor) -> Tensor:
    """Return tr sqrt(A^T A B^T B) for factors `a` (n, dims) and `b` (m, dims), in the cheapest exact way.

    Few rows: the n x m singular values. More rows than columns on both sides: through the covariances.
    """
    dims = a.shape[1]
    if len(a) > dims and len(b) > dims:
        return _trace_sqrt_covariances(_gram(a), _gram(b))
    # R^T R = A^T A: a tall factor is replaced by its small triangle
    a, b = (torch.linalg.qr(f, mode="r").R if len(f) > dims else f for f in (a, b))
    singular: Tensor = torch.linalg.svdvals(a @ b.T)
    return singular.sum()


def _trace_sqrt_covariances(s1: Tensor, s2: Tensor) -> Tensor:
    """Return tr sqrt(S_1 S_2) = sum sqrt(eig(L^T S_2 L)) with S_1 = L L^T; an eigenvalue root where Cholesky fails."""
    lower, info = torch.linalg.cholesky_ex(s1)
    if int(info) != 0:
        values, vectors = torch.linalg.eigh(s1)
        root = vectors * values.clamp(min=0).sqrt()
        product = root.T @ s2 @ root
    else:
        product = _congruence(lower, s2)
    eigenvalues: Tensor = torch.linalg.eigvalsh(product)
    return eigenvalues.clamp(min=0).sqrt().sum()


def _congruence(lower: Tensor, s: Tensor) -> Tensor:
    """Return the lower triangle of L^T S L, which is all that `eigvalsh` reads; LAPACK computes no more of it."""
    if s.device.type != "cpu":
        return lower.T @ s @ lower
    from scipy.linalg.lapack import dsygst

    return torch.from_numpy(dsygst(s.numpy(), lower.numpy(), itype=2, lower=1)[0])


def _distance(difference: Tensor, traces: Tensor, cross: Tensor) -> float:
    # the true value is never negative: what lies below zero is rounding
    return max(0.0, float(difference.square().sum() + traces - 2 * cross))


def _gram(x: Tensor) -> Tensor:
    """Return X^T X (dims, dims) of `x` (n, dims)."""
    if x.device.type != "cpu":
        return x.T @ x
    rows = x.numpy()
    return torch.from_numpy(rows.T @ rows)  # NumPy sees that the product is symmetric and computes one half


def statistics(features: Matrix, *, extractor: str | None = None) -> Statistics:
    """Return the statistics of `features` (n, dims), covariance divided by n - 1."""
    x = check_features(features, "features").double()
    mu = x.mean(dim=0)
    centred = x - mu
    return Statistics(mu, _gram(centred) / (len(x) - 1), len(x), extractor)


def statistics_path(path: str | Path) -> Path:
    """Return `path` if it is one for a file of statistics."""
    if Path(path).suffix != ".npz":
        raise ValueError(f"`path` of statistics must end in .npz, got {path}")
    return Path(path)


def write_statistics(path: str | Path, values: Statistics) -> Path:
    """Write `values` to an npz file that pytorch-fid reads; the file appears whole or not at all."""
    path = statistics_path(path)
    arrays = {"mu": values.mu.cpu().numpy(), "sigma": values.sigma.cpu().numpy()}
    if values.n is not None:
        arrays["n"] = np.array(values.n)
    if values.extractor is not None:
        arrays["extractor"] = np.array(values.extractor)
    return write_npz(path, arrays)


def read_statistics(path: str | Path) -> Statistics:
    """Read an npz file with `mu` (dims,) and `sigma` (dims, dims), written by pytorch-fid or here."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no statistics at {path}; write_statistics or `pytorch_fid --save-stats` makes them")
    arrays = read_npz(path)
    for name in ("mu", "sigma"):
        if name not in arrays or arrays[name].dtype.kind not in "iuf":
            held = arrays[name].dtype if name in arrays else "none"
            raise ValueError(f"{path} is not a statistics file: it needs `{name}`, real numbers, and holds {held}")
    mu, sigma = (torch.from_numpy(arrays[name].astype(np.float64)) for name in ("mu", "sigma"))
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(f"{path}: `sigma` must be (dims, dims) for `mu` (dims,), got {sigma.shape} and {mu.shape}")
    if not bool(torch.isfinite(mu).all() and torch.isfinite(sigma).all()):
        raise ValueError(f"{path} holds NaN or infinity")
    _check_covariance(path, sigma)
    n = arrays.get("n")
    if n is not None and (n.shape or n.dtype.kind not in "iu" or n < 2):
        raise ValueError(f"{path}: `n` must be a whole number of at least 2, got {str(n)[:50]}")
    extractor = str(arrays["extractor"]) if "extractor" in arrays else None
    return Statistics(mu, sigma, None if n is None else int(n), extractor)


def _check_covariance(path: Path, sigma: Tensor) -> None:
    """Raise a ValueError that names the cell unless `sigma` is symmetric, without a negative variance or eigenvalue."""
    scale = float(sigma.abs().max()) if sigma.numel() else 0.0
    skew = (sigma - sigma.T).abs()
    if sigma.numel() and float(skew.max()) > ASYMMETRY * scale:
        i, j = divmod(int(skew.argmax()), len(sigma))
        raise ValueError(
            f"{path}: `sigma` must be symmetric, but [{i}, {j}] is {sigma[i, j]:g} and [{j}, {i}] is {sigma[j, i]:g}"
        )
    # a Cholesky factor exists where all eigenvalues are positive; of 2,048 features it takes a tenth of their time
    if int(torch.linalg.cholesky_ex(sigma + NEGATIVE * (scale or 1) * torch.eye(len(sigma)).double()).info):
        i = int(sigma.diagonal().argmin())
        raise ValueError(
            f"{path}: `sigma` is no covariance, it has a negative eigenvalue; the lowest variance, [{i}, {i}], is "
            f"{sigma[i, i]:g}"
        )


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write `arrays` to an npz file that appears whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy takes the keyword `allow_pickle` for one of them
    return path
