"""Feature matrices (n, dims): what every score takes; checked here once, and walked through in blocks."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

Matrix = Tensor | np.ndarray

BLOCK = 2048  # rows a block: 2048 x 2048 distances in float32 are 16 MiB


def check_features(features: Matrix, name: str, *, at_least: int = 2) -> Tensor:
    """Return `features` (n, dims) as a float32 or float64 tensor on its own device.

    float64 stays float64; everything else becomes float32.

    Raises:
        ValueError: for another shape, fewer than `at_least` rows, no columns, or a value that is not finite.
    """
    matrix = torch.as_tensor(features).detach()
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"`{name}` must be a feature matrix of shape (n, dims), got {tuple(matrix.shape)}")
    if len(matrix) < at_least:
        raise ValueError(f"`{name}` must have at least {at_least} rows for this score, got {len(matrix)}")
    if matrix.dtype != torch.float64:
        matrix = matrix.float()
    bad = len(matrix) - int(torch.isfinite(matrix).all(dim=1).sum())
    if bad:
        raise ValueError(f"`{name}` has {bad} of {len(matrix)} rows with NaN or infinity; look at those images first")
    return matrix


def check_pair(real: Matrix, fake: Matrix, *, at_least: int = 2) -> tuple[Tensor, Tensor]:
    """Return `real` (n, dims) and `fake` (m, dims) as tensors of one type on the device of `real`."""
    real, fake = check_features(real, "real", at_least=at_least), check_features(fake, "fake", at_least=at_least)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"`real` and `fake` must have the same number of columns, got {real.shape[1]} and {fake.shape[1]}; "
            "were they extracted by the same extractor from images of one size?"
        )
    dtype = torch.promote_types(real.dtype, fake.dtype)
    return real.to(dtype), fake.to(real.device, dtype)


def centre(reference: Tensor, *others: Tensor) -> list[Tensor]:
    """Subtract the mean of `reference` (n, dims) from it and from `others`: distances then survive float32.

    What is left of a column that is constant up to its rounding becomes exactly 0.
    """
    mean = reference.mean(dim=0, dtype=torch.float64)
    rounding = torch.finfo(reference.dtype).eps * reference.abs().amax(dim=0).double()
    shifted = [torch.empty_like(m) for m in (reference, *others)]
    for source, target in zip((reference, *others), shifted, strict=True):
        for rows in blocks(len(source)):
            block = source[rows].double() - mean
            target[rows] = block.masked_fill_(block.abs() <= rounding, 0.0)
    return shifted


def gram(x: Tensor) -> Tensor:
    """Return X^T X (dims, dims) of `x` (n, dims)."""
    if x.device.type != "cpu":
        return x.T @ x
    rows = x.numpy()
    return torch.from_numpy(rows.T @ rows)  # NumPy sees that the product is symmetric and computes one half


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances (n, m) between the rows of `a` (n, dims) and `b` (m, dims), by one product."""
    squares = torch.einsum("nd,nd->n", a, a)[:, None] + torch.einsum("md,md->m", b, b)[None, :]
    return squares.addmm_(a, b.T, alpha=-2.0).clamp_(min=0.0)


def blocks(n: int) -> Iterator[slice]:
    """Yield slices of at most `BLOCK` rows that cover 0..n."""
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


def subsample(n: int, size: int, seed: int) -> Tensor:
    """Return `size` distinct indices below `n`, sorted, drawn with `seed`; all of them where `size` >= `n`."""
    if size >= n:
        return torch.arange(n)
    return torch.from_numpy(np.sort(np.random.default_rng(seed).permutation(n)[:size]))
