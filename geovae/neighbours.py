"""Squared distances and nearest neighbours between the rows of two matrices, block by block.

The nearest row is found by matrix products of centred blocks: `|a - b|^2 = |a|^2 + |b|^2 - 2 a.b`. Only its distance is
then computed from the difference, in float64, so that a copy has distance 0.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geovae.devices import full_precision

Matrix = Tensor | np.ndarray

BLOCK = 2048  # rows a block: 2048 x 2048 distances in float32 are 16 MiB
DISTANCES = 2**24  # of `k_nearest` at once, whose rows are whole: 64 MiB in float32


class Nearest(NamedTuple):
    """The nearest reference row of each query: Euclidean `distances` (n,), float64, and `indices` (n,), on the CPU."""

    distances: Tensor
    indices: Tensor


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return squared Euclidean distances (n, m) between the rows of `a` (n, d) and `b` (m, d), by one product.

    Subtract a common mean first where rows lie far from the origin: squares of large numbers lose their digits.
    """
    squares = torch.einsum("nd,nd->n", a, a)[:, None] + torch.einsum("md,md->m", b, b)[None, :]
    return squares.addmm_(a, b.T, alpha=-2.0).clamp_(min=0.0)


@full_precision()
def nearest(queries: Matrix, reference: Matrix, *, exclude: Tensor | None = None) -> Nearest:
    """Return the nearest row of `reference` (m, d) for each row of `queries` (n, d).

    Both are floats, or uint8, which counts as value / 255. Works on the device of `reference`, block by block: images
    need no floating-point copy. Products are float32, or float64 where `reference` is. `exclude` (n,) is a row of
    `reference` that each query must not match, for a set against itself.

    Raises:
        ValueError: for another shape, different widths, NaN or infinity, or nothing left to match.
    """
    queries, reference = torch.as_tensor(queries), torch.as_tensor(reference)
    _check_rows(queries, "queries", 1)
    _check_rows(reference, "reference", 1 if exclude is None else 2)
    if queries.shape[1] != reference.shape[1]:
        raise ValueError(f"`queries` and `reference` differ in width: {queries.shape[1]} and {reference.shape[1]}")
    sums = [_to_double(reference[rows]).sum(dim=0) for rows in blocks(len(reference))]
    mean = torch.stack(sums).sum(dim=0) / len(reference)  # centred rows keep their digits in the product
    excluded = torch.full((len(queries),), -1) if exclude is None else exclude  # -1: every row may be matched
    found = [_nearest_in_blocks(queries[r], reference, mean, excluded[r]) for r in blocks(len(queries))]
    return Nearest(torch.cat([f.distances for f in found]), torch.cat([f.indices for f in found]))


def k_nearest(queries: Tensor, reference: Tensor, k: int, *, exclude: Tensor | None = None) -> Tensor:
    """Return the indices (n, k) of the k nearest rows of `reference` (m, d) for each of `queries` (n, d), in order.

    Both are floats on one device; distances are computed in their type, by products of centred blocks. `exclude` as in
    `nearest`.

    Raises:
        ValueError: if there are fewer rows than k.
    """
    available = len(reference) - (exclude is not None)
    if not 1 <= k <= available:
        raise ValueError(f"`k` must lie in 1..{available}, the rows of `reference`, got {k}")
    mean = reference.mean(0)
    centred, found = reference - mean, torch.empty(len(queries), k, dtype=torch.long, device=reference.device)
    for rows in torch.arange(len(queries)).split(max(DISTANCES // len(reference), 1)):
        distances = squared_distances(queries[rows] - mean, centred)
        if exclude is not None:
            distances.scatter_(1, exclude[rows, None].to(distances.device), float("inf"))
        found[rows] = distances.topk(k, largest=False).indices
    return found


def code_novelty(latents: Matrix, codes: Matrix, held_out: Matrix | None = None) -> float:
    """Return how far `latents` (n, d) lie from training `codes` (k, d), in units of new data: 1 is as far, 0 a copy.

    It is the median distance of `latents` to their nearest of `codes`, over that of `held_out` codes (m, d). Without
    `held_out` each of at most `BLOCK` codes, at even distances, is compared with all other codes. Codes that coincide
    give infinity, or 1 for latents that coincide with them.
    """
    codes = torch.as_tensor(codes)
    if held_out is None:
        rows = torch.arange(0, len(codes), max(1, len(codes) // BLOCK))
        spacing = nearest(codes[rows.to(codes.device)], codes, exclude=rows).distances
    else:
        spacing = nearest(held_out, codes).distances
    return ratio(float(nearest(latents, codes).distances.median()), float(spacing.median()))


def ratio(value: float, scale: float) -> float:
    """Return value / scale for distances: 1 where both are 0, infinity where only `scale` is."""
    if scale > 0:
        return value / scale
    return 1.0 if value == 0 else float("inf")


def blocks(n: int) -> Iterator[slice]:
    """Yield slices of at most `BLOCK` rows that cover 0..n."""
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


def _nearest_in_blocks(queries: Tensor, reference: Tensor, mean: Tensor, exclude: Tensor) -> Nearest:
    dtype = torch.float64 if reference.dtype == torch.float64 else torch.float32
    rows, exclude = _to_double(queries.to(reference.device)), exclude.to(reference.device)
    centred = (rows - mean).to(dtype)
    best = centred.new_full((len(rows),), float("inf"))
    index = torch.zeros(len(rows), dtype=torch.long, device=reference.device)
    for columns in blocks(len(reference)):
        distances = squared_distances(centred, (_to_double(reference[columns]) - mean).to(dtype))
        inside = ((exclude >= columns.start) & (exclude < columns.stop)).nonzero().squeeze(1)
        distances[inside, exclude[inside] - columns.start] = float("inf")
        values, positions = distances.min(dim=1)
        # Strictly below: an earlier block keeps a tie.
        index = torch.where(values < best, positions + columns.start, index)
        best = torch.minimum(values, best)
    exact = torch.linalg.vector_norm(rows - _to_double(reference[index]), dim=1)
    return Nearest(exact.cpu(), index.cpu())


def _to_double(values: Tensor) -> Tensor:
    return values.double() / 255 if values.dtype == torch.uint8 else values.double()


def _check_rows(matrix: Tensor, name: str, at_least: int) -> None:
    """Check shape and values block by block, without a copy of the whole."""
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"`{name}` must be of shape (n, d), got {tuple(matrix.shape)}")
    if len(matrix) < at_least:
        raise ValueError(f"`{name}` must have at least {at_least} rows, got {len(matrix)}")
    bad = sum(int((~torch.isfinite(matrix[rows]).all(dim=1)).sum()) for rows in blocks(len(matrix)))
    if bad:
        raise ValueError(f"`{name}` has {bad} of {len(matrix)} rows with NaN or infinity")
