"""Memorisation: how near samples lie to the training set, against how near held-out points lie to it.

A sampler that hands back its training set has a superb Frechet distance; its samples lie nearer to the training set
than anything new can. The comparison with held-out points follows the data-copying test of Meehan et al. 2020
(arXiv 2004.05675): P(d(sample) < d(held-out)) is 1/2 for new data and 1 for copies.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from geovae.evaluation.matrices import Matrix, blocks, centre, check_features, check_pair, squared_distances


class Nearest(NamedTuple):
    """The nearest reference point of each query: Euclidean `distances` (n,), float64, and `indices` (n,)."""

    distances: Tensor
    indices: Tensor


def nearest(queries: Matrix, reference: Matrix, *, leave_one_out: bool = False) -> Nearest:
    """Return the nearest of `reference` (m, dims) to each of `queries` (n, dims); uint8 counts as value / 255.

    The nearest point is found by float32 products of centred blocks (float64 where `reference` is); its distance is
    then taken directly, in float64, so that a copy has distance 0. `leave_one_out` skips the point with the query's own
    index, for a set against itself. Works on the device of `reference`, a block at a time: images need no copy.
    """
    queries, reference = torch.as_tensor(queries), torch.as_tensor(reference)
    _check_rows(queries, "queries", 1)
    _check_rows(reference, "reference", 1 + leave_one_out)
    if queries.shape[1] != reference.shape[1]:
        raise ValueError(f"`queries` and `reference` differ in width: {queries.shape[1]} and {reference.shape[1]}")
    sums = [_rows(reference[rows]).sum(dim=0) for rows in blocks(len(reference))]
    mean = torch.stack(sums).sum(dim=0) / len(reference)
    found = [_nearest_block(queries, rows, reference, mean, leave_one_out) for rows in blocks(len(queries))]
    return Nearest(torch.cat([f.distances for f in found]), torch.cat([f.indices for f in found]))


def _nearest_block(queries: Tensor, rows: slice, reference: Tensor, mean: Tensor, leave_one_out: bool) -> Nearest:
    dtype = torch.float64 if reference.dtype == torch.float64 else torch.float32
    block = _rows(queries[rows].to(reference.device))
    centred = (block - mean).to(dtype)
    best = centred.new_full((len(block),), float("inf"))
    index = torch.zeros(len(block), dtype=torch.long, device=reference.device)
    for columns in blocks(len(reference)):
        distances = squared_distances(centred, (_rows(reference[columns]) - mean).to(dtype))
        if leave_one_out:
            own = torch.arange(rows.start, rows.stop, device=reference.device) - columns.start
            here = (own >= 0) & (own < distances.shape[1])
            distances[here.nonzero()[:, 0], own[here]] = float("inf")
        values, positions = distances.min(dim=1)
        index = torch.where(values < best, positions + columns.start, index)
        best = torch.minimum(values, best)
    exact = torch.linalg.vector_norm(block - _rows(reference[index]), dim=1)
    return Nearest(exact.cpu(), index.cpu())


def _rows(values: Tensor) -> Tensor:
    return values.double() / 255 if values.dtype == torch.uint8 else values.double()


def _check_rows(matrix: Tensor, name: str, at_least: int) -> None:
    """The checks of `check_features`, block by block and without a copy."""
    if matrix.ndim != 2:
        raise ValueError(f"`{name}` must be of shape (n, dims), got {tuple(matrix.shape)}")
    for rows in blocks(max(len(matrix), 1)):
        check_features(matrix[rows], name, at_least=at_least if rows.start == 0 else 1)


def neighbours(*, real: Matrix, fake: Matrix) -> dict[str, float]:
    """Return how near `fake` (m, dims) comes to `real` (n, dims), relative to the spacing of `real` itself.

    Keys: `neighbour_distance` (median distance of a fake point to its nearest real one), `neighbour_ratio` (that, over
    the median leave-one-out distance within `real`; about 1 for new data, 0 for copies) and `neighbour_copies` (part of
    `fake` at distance 0 to rounding). With a held-out set, `memorisation` answers the same question better.
    """
    real, fake = check_pair(real, fake)
    own = nearest(real, real, leave_one_out=True).distances
    found = nearest(fake, real).distances
    scale = float(centre(real)[0].abs().max()) or 1.0
    copies = found <= 1e-6 * scale * real.shape[1] ** 0.5
    return {
        "neighbour_distance": float(found.median()),
        "neighbour_ratio": _ratio(float(found.median()), float(own.median())),
        "neighbour_copies": float(copies.double().mean()),
    }


def memorisation(*, train: Matrix, fake: Matrix, held_out: Matrix) -> dict[str, float]:
    """Compare the distances to the nearest of `train` (n, dims) of `fake` (m, dims) and of `held_out` (l, dims).

    Keys: `nn_distance` (median for `fake`), `nn_ratio` (over the held-out median; 1 is new, 0 copied), `nn_auc`
    (probability that a fake point is nearer than a held-out one, ties half; 1/2 is new, 1 copied) and `nn_close` (part
    of `fake` nearer than 95 % of the held-out points; 0.05 is new, 1 copied).
    """
    of_fake, of_held_out = nearest(fake, train).distances, nearest(held_out, train).distances
    return {
        "nn_distance": float(of_fake.median()),
        "nn_ratio": _ratio(float(of_fake.median()), float(of_held_out.median())),
        "nn_auc": _probability_nearer(of_fake, of_held_out),
        "nn_close": float((of_fake < of_held_out.quantile(0.05)).double().mean()),
    }


def _probability_nearer(a: Tensor, b: Tensor) -> float:
    """P(a < b) + P(a = b) / 2 over all pairs."""
    ordered = b.sort().values
    above = len(b) - torch.searchsorted(ordered, a, right=True)
    equal = torch.searchsorted(ordered, a, right=True) - torch.searchsorted(ordered, a)
    return float((above + 0.5 * equal).double().mean() / len(b))


def _ratio(value: float, scale: float) -> float:
    """value / scale, 1 where both are 0 and infinite where only the scale is."""
    if scale > 0:
        return value / scale
    return 1.0 if value == 0 else float("inf")
