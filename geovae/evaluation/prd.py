"""Precision and recall of distributions, PRD (Sajjadi et al. 2018, arXiv 1806.00035).

Both sets are clustered together; P (real) and Q (fake) are their histograms over the clusters. For every slope
lambda, alpha(lambda) = sum_i min(lambda P_i, Q_i) is precision and beta(lambda) = alpha(lambda) / lambda recall. The
pair reported is the maximum over the curve of F_8 (recall-like) and of F_1/8 (precision-like).

The k-means is our own and not scikit-learn's, which runs on the CPU only and copies a GPU's features there; only the
labels are needed.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geovae.checks import check_count, check_positive
from geovae.evaluation.score import Number, Numbers, centre, check_pair, score
from geovae.neighbours import Matrix

CLUSTERS = 20  # as the paper has it
BATCH = 1024  # points of one step of mini-batch k-means
STEPS = 40
STARTS = 3


class PrdCurve(NamedTuple):
    """`precision` and `recall` (angles,) from the steepest to the flattest slope: numpy arrays in [0, 1]."""

    precision: np.ndarray
    recall: np.ndarray


# k-means starts from random points, and another order of the rows draws others
NOISE = 0.03


@score(
    {
        "prd_f8": Number(
            "F8 of the precision-recall curve: recall, are all kinds drawn", "part of 1", "higher", 1.0, 0.0, NOISE
        ),
        "prd_f1_8": Number(
            "F1/8 of the same curve: precision, is each sample good", "part of 1", "higher", 1.0, 0.0, NOISE
        ),
    },
    least_rows=CLUSTERS // 2,
)
def prd(*, real: Tensor, fake: Tensor, clusters: int = CLUSTERS, runs: int = 10, seed: int = 0) -> Numbers:
    """Return {"prd_f8", "prd_f1_8"} of `real` and `fake`, both (n, dims) with the same n.

    prd_f8 falls when modes of `real` are missing from `fake`, prd_f1_8 when `fake` holds what `real` does not.
    """
    curve = prd_curve(real=real, fake=fake, clusters=clusters, runs=runs, seed=seed)
    return {"prd_f8": f_beta(curve, 8.0), "prd_f1_8": f_beta(curve, 1 / 8)}


def prd_curve(*, real: Matrix, fake: Matrix, clusters: int = CLUSTERS, runs: int = 10, seed: int = 0) -> PrdCurve:
    """Return the curve averaged over `runs` clusterings, as the authors do."""
    real, fake = check_pair(real, fake)
    if len(real) != len(fake):
        raise ValueError(
            f"PRD needs equally many rows, got {len(real)} real and {len(fake)} fake; "
            "draw a subset of the larger set (`subsample`)"
        )
    check_count(low=2, clusters=clusters)
    check_count(runs=runs)
    if 2 * len(real) < clusters:
        raise ValueError(f"{clusters} `clusters` need as many rows, got {2 * len(real)} in both sets; ask for fewer")
    generator = torch.Generator().manual_seed(seed)
    points = torch.cat(centre(real, fake))
    curves = []
    for _ in range(runs):
        labels = mini_batch_kmeans(points, clusters, generator).cpu()
        p, q = (
            torch.bincount(part, minlength=clusters).double() / len(part) for part in torch.split(labels, len(real))
        )
        curves.append(curve_of_histograms(real=p, fake=q))
    return PrdCurve(*(np.mean(values, axis=0) for values in zip(*curves, strict=True)))


def curve_of_histograms(*, real: Tensor, fake: Tensor, angles: int = 1001) -> PrdCurve:
    """Return the curve of two histograms (bins,) that each sum to 1, at slopes tan(angle), evenly spaced angles."""
    # angles and not slopes are evenly spaced, so that both ends of the curve are equally fine
    slopes = torch.linspace(1e-10, math.pi / 2 - 1e-10, angles, dtype=torch.float64).tan()
    precision = torch.minimum(slopes[:, None] * real.double(), fake.double()).sum(dim=1)
    recall = precision / slopes
    return PrdCurve(precision.clamp(0, 1).numpy(), recall.clamp(0, 1).numpy())


def f_beta(curve: PrdCurve, beta: float) -> float:
    """Return the maximum over the curve of F_beta = (1 + beta^2) p r / (beta^2 p + r)."""
    check_positive(beta=beta)
    weighted = beta**2 * curve.precision + curve.recall
    return float(np.max((1 + beta**2) * curve.precision * curve.recall / np.maximum(weighted, 1e-300)))


def mini_batch_kmeans(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Return the cluster 0..k-1 of each of `points` (n, dims), as (n,) integers, n >= k (Sculley 2010).

    Points are visited in passes over shuffled batches, and each centroid is the running mean of its points, with rate
    1 / count. A set that fits into one batch gets plain Lloyd steps until no label changes. `generator` is a CPU
    generator, so that the draws are the same on every device.
    """
    if len(points) < k:
        raise ValueError(f"{k} clusters need at least {k} points, got {len(points)}; ask for fewer clusters")
    # computed once: all distances below need only products beside them
    half_norms = 0.5 * torch.einsum("nd,nd->n", points, points)
    centroids = _best_start(points, half_norms, k, generator)
    if len(points) <= BATCH:
        return _lloyd(points, centroids)
    counts = torch.zeros(k, dtype=points.dtype, device=points.device)
    for batch in _batches(len(points), generator):
        x = points[batch.to(points.device)]
        _update(centroids, counts, x, _nearest(x, centroids))
    return _nearest(points, centroids)


def _lloyd(points: Tensor, centroids: Tensor) -> Tensor:
    """Return the labels (n,) after at most `STEPS` full steps; a cluster that loses all its points keeps its place."""
    labels = _nearest(points, centroids)
    for _ in range(STEPS):
        members = torch.nn.functional.one_hot(labels, len(centroids)).to(points.dtype)
        sizes = members.sum(dim=0)[:, None]
        centroids = torch.where(sizes > 0, members.T @ points / sizes.clamp(min=1.0), centroids)
        before, labels = labels, _nearest(points, centroids)
        if torch.equal(before, labels):
            break
    return labels


def _batches(n: int, generator: torch.Generator) -> list[Tensor]:
    """Return `STEPS` batches of shuffled passes over 0..n."""
    passes = -(-STEPS * BATCH // n)
    order = torch.cat([torch.randperm(n, generator=generator) for _ in range(passes)])
    return list(torch.split(order, BATCH)[:STEPS])


def _best_start(points: Tensor, half_norms: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Return the best of `STARTS` k-means++ seedings, each drawn from and judged on a random batch of points."""
    starts = []
    for _ in range(STARTS):
        rows = torch.randperm(len(points), generator=generator)[:BATCH].to(points.device)
        starts.append(_plus_plus(points[rows], half_norms[rows], k, generator))
    return min(starts, key=lambda start: start[1])[0]


def _plus_plus(points: Tensor, half_norms: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Return centroids by greedy k-means++ (Arthur & Vassilvitskii 2007), each the best of four, and the cost."""
    chosen = torch.randint(len(points), (1,), generator=generator).to(points.device)
    picked, distance = [chosen], _half_distances(points, half_norms, chosen)[:, 0]
    for _ in range(k - 1):
        # cumulative search instead of `multinomial`, which takes at most 2^24 weights and a device's own generator
        ladder = distance.double().cumsum(0)
        draws = torch.rand(4, generator=generator, dtype=torch.float64).to(points.device) * ladder[-1]
        candidates = torch.searchsorted(ladder, draws, right=True).clamp_(max=len(points) - 1)
        shortened = torch.minimum(_half_distances(points, half_norms, candidates), distance[:, None])
        best = shortened.sum(dim=0).argmin()
        picked.append(candidates[best : best + 1])
        distance = shortened[:, best]
    return points[torch.cat(picked)].clone(), float(distance.sum())


def _half_distances(points: Tensor, half_norms: Tensor, chosen: Tensor) -> Tensor:
    """Return half the squared distances (n, m) of `points` to the points `chosen` (m,)."""
    products = points @ points[chosen].T
    return (half_norms[:, None] + half_norms[chosen][None, :] - products).clamp_(min=0.0)


def _nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Return the index (n,) of the nearest centroid of each point: |x - c|^2 / 2 without |x|^2 / 2, common to all."""
    return (0.5 * centroids.square().sum(dim=1) - points @ centroids.T).argmin(dim=1)


def _update(centroids: Tensor, counts: Tensor, points: Tensor, labels: Tensor) -> None:
    """Move the centroids, in place, to the running means of all points they were given so far."""
    members = torch.nn.functional.one_hot(labels, len(centroids)).to(points.dtype)
    arrived = members.sum(dim=0)
    counts += arrived
    rate = (1.0 / counts.clamp(min=1.0))[:, None]
    centroids += rate * (members.T @ points - arrived[:, None] * centroids)
