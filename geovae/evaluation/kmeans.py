"""Mini-batch k-means (Sculley 2010) with k-means++ seeding, in torch: on any device, from a seeded generator.

Only labels are needed, to turn two feature sets into histograms. Points are visited in passes over shuffled batches and
each centroid is the running mean of the points it was given, with rate 1 / count. A set that fits into one batch gets
plain Lloyd steps until no label changes.
"""

import torch
from torch import Tensor


def mini_batch_kmeans(
    points: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    batch_size: int = 1024,
    steps: int = 40,
    inits: int = 3,
) -> Tensor:
    """Return the cluster 0..k-1 of each of `points` (n, dims), as (n,) integers; needs n >= k.

    `generator` is a CPU generator, so that the draws are the same on every device.
    """
    if len(points) < k:
        raise ValueError(f"{k} clusters need at least {k} points, got {len(points)}; ask for fewer clusters")
    half_norms = 0.5 * torch.einsum("nd,nd->n", points, points)
    centroids = _best_start(points, half_norms, k, generator, min(len(points), batch_size), inits)
    if len(points) <= batch_size:
        return _lloyd(points, centroids, steps)
    counts = torch.zeros(k, dtype=points.dtype, device=points.device)
    for batch in _batches(len(points), batch_size, steps, generator):
        x = points[batch.to(points.device)]
        _update(centroids, counts, x, _nearest(x, centroids))
    return _nearest(points, centroids)


def _lloyd(points: Tensor, centroids: Tensor, steps: int) -> Tensor:
    """Return the labels (n,) after at most `steps` full steps; a cluster that loses all its points keeps its place."""
    labels = _nearest(points, centroids)
    for _ in range(steps):
        members = torch.nn.functional.one_hot(labels, len(centroids)).to(points.dtype)
        sizes = members.sum(dim=0)[:, None]
        centroids = torch.where(sizes > 0, members.T @ points / sizes.clamp(min=1.0), centroids)
        before, labels = labels, _nearest(points, centroids)
        if torch.equal(before, labels):
            break
    return labels


def _batches(n: int, size: int, steps: int, generator: torch.Generator) -> list[Tensor]:
    """Cut shuffled passes over 0..n, n > size, into `steps` batches."""
    passes = -(-steps * size // n)
    order = torch.cat([torch.randperm(n, generator=generator) for _ in range(passes)])
    return list(order.split(size)[:steps])


def _best_start(points: Tensor, half_norms: Tensor, k: int, g: torch.Generator, size: int, inits: int) -> Tensor:
    """The best of `inits` k-means++ seedings, drawn from and judged on a random subset of `size` points."""
    best, best_cost = None, float("inf")
    for _ in range(inits):
        subset = torch.randperm(len(points), generator=g)[:size].to(points.device)
        centroids, cost = _plus_plus(points[subset], half_norms[subset], k, g)
        if best is None or cost < best_cost:
            best, best_cost = centroids, cost
    assert best is not None
    return best


def _plus_plus(points: Tensor, half_norms: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Greedy k-means++ (Arthur & Vassilvitskii 2007): of a few draws by squared distance, keep the best one."""
    tries = 4
    chosen = torch.randint(len(points), (1,), generator=generator).to(points.device)
    picked, distance = [chosen], _half_distances(points, half_norms, chosen)[:, 0]
    for _ in range(k - 1):
        # cumulative search instead of `multinomial`, which takes at most 2^24 weights and a device's own generator
        ladder = distance.double().cumsum(0)
        draws = torch.rand(tries, generator=generator, dtype=torch.float64).to(points.device) * ladder[-1]
        candidates = torch.searchsorted(ladder, draws, right=True).clamp_(max=len(points) - 1)
        shortened = torch.minimum(_half_distances(points, half_norms, candidates), distance[:, None])
        best = shortened.sum(dim=0).argmin()
        picked.append(candidates[best : best + 1])
        distance = shortened[:, best]
    return points[torch.cat(picked)].clone(), float(distance.sum())


def _half_distances(points: Tensor, half_norms: Tensor, chosen: Tensor) -> Tensor:
    """Half the squared distances (n, m) of `points` to the points `chosen` (m,)."""
    products = points @ points[chosen].T
    return (half_norms[:, None] + half_norms[chosen][None, :] - products).clamp_(min=0.0)


def _nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest centroid of each point, (n,): |x - c|^2 / 2 without the part that all share."""
    return (0.5 * centroids.square().sum(dim=1) - points @ centroids.T).argmin(dim=1)


def _update(centroids: Tensor, counts: Tensor, points: Tensor, labels: Tensor) -> None:
    """Move the centroids, in place, to the running means of all points they were given so far."""
    members = torch.nn.functional.one_hot(labels, len(centroids)).to(points.dtype)
    arrived = members.sum(dim=0)
    counts += arrived
    rate = (1.0 / counts.clamp(min=1.0))[:, None]
    centroids += rate * (members.T @ points - arrived[:, None] * centroids)
