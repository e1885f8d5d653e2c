"""Scores by nearest neighbours: precision and recall, density and coverage, copies, memorisation.

Each point has a ball that reaches its k-th nearest neighbour of its own set. precision: part of `fake` inside (<=) a
ball of `real`; recall: the same with the sets exchanged (Kynkaanniemi et al. 2019, arXiv 1904.06991). density: mean
number of real balls around (<) a fake point, over k; coverage: part of the real balls with a fake point inside (<)
(Naeem et al. 2020, arXiv 2002.09797).

A sampler that returns its training set has an excellent Frechet distance; its samples lie nearer to the training set
than new data can. The comparison with held-out points follows the data-copying test of Meehan et al. 2020 (arXiv
2004.05675): P(d(sample) < d(held-out)) is 1/2 for new data and 1 for copies.
"""

import torch
from torch import Tensor

from geovae.checks import check_count
from geovae.evaluation.score import Number, Numbers, centre, score
from geovae.neighbours import Matrix, blocks, nearest, ratio, squared_distances

K_PRECISION, K_DENSITY = 3, 5


@score(
    {
        "precision": Number("part of the samples within the real neighbourhoods", "part of 1", "higher", 1.0, 0.0),
        "recall": Number("part of the real images within the samples' neighbourhoods", "part of 1", "higher", 1.0, 0.0),
        "density": Number("real neighbourhoods around a sample, over their expected number", "-", "higher", 1.0, 0.0),
        "coverage": Number(
            "part of the real images with a sample in their neighbourhood", "part of 1", "higher", 1.0, 0.0
        ),
    },
    least_rows=K_DENSITY + 1,
)
def precision_recall(*, real: Tensor, fake: Tensor, k: int = K_PRECISION, k_density: int = K_DENSITY) -> Numbers:
    """Return {"precision", "recall", "density", "coverage"} of `real` (n, dims) and `fake` (m, dims).

    `k` is the neighbour of precision and recall, `k_density` that of density and coverage; both sets need more rows
    than the larger of the two. Distances are computed in the type of the features, after the mean of `real` is removed;
    a tie is decided within rounding (relative 2e-6 in float32, 1e-10 in float64).
    """
    check_count(k=k, k_density=k_density)
    if min(len(real), len(fake)) <= max(k, k_density):
        raise ValueError(
            f"`k` and `k_density` must be below the number of rows, got {k} and {k_density} for {len(real)} real and "
            f"{len(fake)} fake rows"
        )
    real, fake = centre(real, fake)
    reach_real = neighbour_reach(real, max(k, k_density))
    reach_fake = neighbour_reach(fake, k)
    return _count(real, fake, reach_real[:, k - 1], reach_fake[:, k - 1], reach_real[:, k_density - 1], k_density)


def neighbour_reach(points: Tensor, k: int) -> Tensor:
    """Return squared distances (n, k) of each of `points` (n, dims) to its 1st to k-th neighbour in the same set.

    Each pair is computed once: a block of distances serves its rows and, turned, its columns.
    """
    nearest = points.new_full((len(points), k), float("inf"))
    for i in blocks(len(points)):
        for j in blocks(len(points)):
            if j.start < i.start:
                continue
            distances = squared_distances(points[i], points[j])
            if i == j:
                distances.fill_diagonal_(float("inf"))
            else:
                nearest[j] = _merge(nearest[j], distances.T)
            nearest[i] = _merge(nearest[i], distances)
    return nearest


def _merge(nearest: Tensor, distances: Tensor) -> Tensor:
    """Return the k smallest of both in each row, ascending."""
    k = nearest.shape[1]
    smallest = distances.topk(min(k, distances.shape[1]), largest=False).values
    return torch.cat([nearest, smallest], dim=1).topk(k, largest=False, sorted=True).values


def _count(real: Tensor, fake: Tensor, reach_p: Tensor, reach_r: Tensor, reach_d: Tensor, k: int) -> dict[str, float]:
    """Count in one pass over all pairs which points lie in which balls."""
    # a point on the rim of a ball is inside for precision and outside for density, whatever rounding makes of it
    slack = 2e-6 if real.dtype == torch.float32 else 1e-10
    precise = torch.zeros(len(fake), dtype=torch.bool, device=real.device)
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    covered, inside = torch.zeros_like(recalled), 0
    for i in blocks(len(real)):
        for j in blocks(len(fake)):
            distances = squared_distances(real[i], fake[j])
            precise[j] |= (distances <= reach_p[i, None] * (1 + slack)).any(dim=0)
            recalled[i] |= (distances <= reach_r[None, j] * (1 + slack)).any(dim=1)
            within = distances < reach_d[i, None] * (1 - slack)
            covered[i] |= within.any(dim=1)
            inside += int(within.sum())
    return {
        "precision": float(precise.double().mean()),
        "recall": float(recalled.double().mean()),
        "density": inside / (k * len(fake)),
        "coverage": float(covered.double().mean()),
    }


@score(
    {
        "neighbour_distance": Number("median distance of a sample to its nearest real image", "feature units"),
        "neighbour_ratio": Number("the same over that between real images", equal=0.0),
        "neighbour_copies": Number("part of the samples that copy a real image", "part of 1", "lower", 1.0, 0.0),
    }
)
def neighbours(*, real: Tensor, fake: Tensor) -> Numbers:
    """Return how near `fake` (m, dims) comes to `real` (n, dims), relative to the spacing of `real` itself.

    Keys: `neighbour_distance` (median distance of a fake point to its nearest real one), `neighbour_ratio` (that, over
    the median leave-one-out distance within `real`; about 1 for new data, 0 for copies) and `neighbour_copies` (part of
    `fake` at distance 0 to rounding). With a held-out set, `memorisation` answers the same question better.
    """
    # without its own row, each real image would be its own nearest neighbour
    spacing = nearest(real, real, exclude=torch.arange(len(real))).distances
    found = nearest(fake, real).distances
    scale = float(centre(real)[0].abs().max()) or 1.0
    copies = found <= 1e-6 * scale * real.shape[1] ** 0.5
    return {
        "neighbour_distance": float(found.median()),
        "neighbour_ratio": ratio(float(found.median()), float(spacing.median())),
        "neighbour_copies": float(copies.double().mean()),
    }


MEMORISATION = {
    "nn_<space>_distance": Number("median distance of a sample to its nearest training image", "units of the space"),
    "nn_<space>_ratio": Number("the same over that of held-out images: 1 is as new as real data, 0 a copy"),
    "nn_<space>_auc": Number(
        "probability that a sample lies nearer to the training set than a held-out image", "part of 1"
    ),
    "nn_<space>_close": Number("part of the samples nearer than 95 % of the held-out images", "part of 1", "lower"),
    "nn_<space>_flag": Number("1 where most samples look copied", "0 or 1", "lower"),
}


def memorisation(space: str, *, train: Matrix, fake: Matrix, held_out: Matrix) -> Numbers:
    """Compare the distances to the nearest of `train` (n, dims) of `fake` (m, dims) and of `held_out` (l, dims).

    Keys, with `space` (such as pixels) in the name: `nn_<space>_distance` (median for `fake`), `..._ratio` (over the
    held-out median; 1 is new, 0 copied), `..._auc` (probability that a fake point is nearer than a held-out one, ties
    half; 1/2 is new, 1 copied), `..._close` (part of `fake` nearer than 95 % of the held-out points; 0.05 is new, 1
    copied) and `..._flag` (1 where that is more than half: the sampler returns its training set).
    """
    of_fake, of_held_out = nearest(fake, train).distances, nearest(held_out, train).distances
    close = float((of_fake < of_held_out.quantile(0.05)).double().mean())
    return {
        f"nn_{space}_distance": float(of_fake.median()),
        f"nn_{space}_ratio": ratio(float(of_fake.median()), float(of_held_out.median())),
        f"nn_{space}_auc": _probability_nearer(of_fake, of_held_out),
        f"nn_{space}_close": close,
        f"nn_{space}_flag": float(close > 0.5),
    }


def _probability_nearer(a: Tensor, b: Tensor) -> float:
    """Return P(a < b) + P(a = b) / 2 over all pairs."""
    ordered = b.sort().values
    above = len(b) - torch.searchsorted(ordered, a, right=True)
    equal = torch.searchsorted(ordered, a, right=True) - torch.searchsorted(ordered, a)
    return float((above + 0.5 * equal).double().mean() / len(b))
