"""Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991) and density and coverage (Naeem et
al. 2020, arXiv 2002.09797).

Each point owns a ball that reaches its k-th nearest neighbour of its own set. precision: part of `fake` inside (<=) a
ball of `real`; recall: the other way round. density: mean number of real balls around (<) a fake point, over k;
coverage: part of the real balls with a fake point inside (<).
"""

import torch
from torch import Tensor

from geovae.evaluation.matrices import Matrix, blocks, centre, check_pair, squared_distances


def precision_recall(*, real: Matrix, fake: Matrix, k: int = 3, k_density: int = 5) -> dict[str, float]:
    """Return {"precision", "recall", "density", "coverage"} of `real` (n, dims) and `fake` (m, dims).

    `k` is the neighbour of precision and recall, `k_density` that of density and coverage; both sets need more rows
    than the larger of the two. Distances are taken in the type of the features, after the mean of `real` is removed;
    a tie is decided within rounding (relative 2e-6 in float32, 1e-10 in float64).
    """
    for name, value in (("k", k), ("k_density", k_density)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")
    real, fake = check_pair(real, fake, at_least=max(k, k_density) + 1)
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
    """The k smallest of both in each row, ascending."""
    k = nearest.shape[1]
    smallest = distances.topk(min(k, distances.shape[1]), largest=False).values
    return torch.cat([nearest, smallest], dim=1).topk(k, largest=False, sorted=True).values


def _count(real: Tensor, fake: Tensor, reach_p: Tensor, reach_r: Tensor, reach_d: Tensor, k: int) -> dict[str, float]:
    """Walk once through all pairs and count who lies in whose ball."""
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
