"""Which codes carry the metric of Eq. 7: all of them, or k chosen by k-means, at random, in order, or by k-medoids.

Every choice returns indices into the codes without duplicates, so that each centroid has its own posterior variance.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from geovae.checks import check_choice
from geovae.codes import Codes
from geovae.devices import full_precision

# Beyond exp(+-30) a float32 posterior variance is no information about data but a collapsed or broken encoder.
LARGEST_LOG_VAR = 30.0
Distances = Callable[[Tensor, Tensor], Tensor]
"""Returns the distances (a, b) between two sets of points, given by their indices (a,) and (b,)."""


def check_codes(codes: Codes, *, need_log_var: bool = False) -> Codes:
    """Return `codes` if they are finite (n, d) floats with matching, sane log variances.

    Raises:
        ValueError: naming what is wrong: type, shape, NaN, an absurd log variance, or a missing one.
    """
    mu, log_var = codes.mu, codes.log_var
    if mu.ndim != 2 or 0 in mu.shape or not mu.is_floating_point():
        raise ValueError(f"`codes.mu` must be non-empty (n, d) floats, got {tuple(mu.shape)} {mu.dtype}")
    if not torch.isfinite(mu).all():
        raise ValueError("`codes.mu` must be finite, got NaN or infinity: did the training diverge?")
    if log_var is None:
        if need_log_var:
            raise ValueError(
                "`codes.log_var` is needed and is None: the codes come from a deterministic encoder; "
                "use a sampler that needs means only, such as `mixture`"
            )
        return codes
    if log_var.shape != mu.shape:
        raise ValueError(f"`codes.log_var` must have shape {tuple(mu.shape)}, got {tuple(log_var.shape)}")
    largest = float(log_var.abs().max())
    if not largest <= LARGEST_LOG_VAR:  # written so that NaN fails too
        raise ValueError(
            f"`codes.log_var` must lie in [-{LARGEST_LOG_VAR:g}, {LARGEST_LOG_VAR:g}], "
            f"got a magnitude of {largest:g}: a variance of 0 or infinity has no metric"
        )
    return codes


@full_precision()
def choose_centroids(codes: Codes, method: str = "kmeans", n_centroids: int = 100, *, seed: int = 0) -> Tensor:
    """Return the indices (k,) of the codes that become centroids, sorted, without duplicates.

    `method` is one of `CENTROIDS`; "all" ignores `n_centroids`. `seed` is for "kmeans" and "random".
    """
    check_choice("method", method, CENTROIDS)
    mu, n = codes.mu, len(codes.mu)
    if method != "all" and not 1 <= n_centroids <= n:
        raise ValueError(
            f"`n_centroids` must lie in 1..{n} (there are {n} codes), got {n_centroids}; "
            'choose fewer, or the method "all"'
        )
    # Sorted: sums over the centroids do not depend on the order of the choice.
    return CENTROIDS[method](mu, n_centroids, seed).sort().values.to(mu.device)


def select_codes(codes: Codes, indices: Tensor) -> Codes:
    """Return the codes at `indices` (k,)."""
    return Codes(codes.mu[indices], None if codes.log_var is None else codes.log_var[indices])


def _kmeans(mu: Tensor, k: int, seed: int) -> Tensor:
    """Run k-means, then replace each centre by its nearest code that no other centre uses."""
    # Not a k-medoids package: those build the (n, n) distance matrix, 29 GB for 60,000 codes in float64.
    from sklearn.cluster import KMeans

    points = mu.detach().double().cpu()
    distinct = len(torch.unique(points, dim=0))
    if distinct < k:
        raise ValueError(f"`n_centroids` = {k} needs as many distinct codes, got {distinct} among {len(mu)}")
    if k == len(mu):
        return torch.arange(k)
    centres = torch.from_numpy(KMeans(k, n_init=1, random_state=seed).fit(points.numpy()).cluster_centers_)
    return snap(centres, points)


def snap(centres: Tensor, points: Tensor) -> Tensor:
    """Return for each centre (k, d) the index of a nearby point (n, d), each point at most once."""
    chosen = torch.cat([torch.cdist(c, points).argmin(1) for c in centres.split(64)])
    seen: set[int] = set()
    for i, index in enumerate(chosen.tolist()):
        if index in seen:  # rare: two centres share their nearest code
            order = torch.cdist(centres[i : i + 1], points)[0].argsort().tolist()
            index = next(j for j in order if j not in seen)
            chosen[i] = index
        seen.add(index)
    return chosen


def _published(mu: Tensor, k: int, seed: int) -> Tensor:
    """k-medoids as the published code runs it: the k most central codes to start, alternating until nothing moves."""
    points = mu.detach().double().cpu()
    every = torch.arange(len(points))

    def distances(a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(points[a], points[b])

    central = _sum_distances(distances, every, every)
    # each code once: the most central ones may be one code of many images
    distinct, which = torch.unique(points, dim=0, return_inverse=True)
    first = torch.empty(len(distinct), dtype=torch.long).scatter_reduce_(0, which, every, "amin", include_self=False)
    repeated = torch.ones(len(points), dtype=torch.bool).index_fill_(0, first, False)
    central = central.masked_fill(repeated, torch.inf)
    return alternate_medoids(distances, central.topk(k, largest=False).indices, len(points), 300)


def alternate_medoids(distances: Distances, medoids: Tensor, n: int, limit: int) -> Tensor:
    """Return where k-medoids moves the medoids (k,) of n points, at most `limit` times.

    In turn each point goes to its nearest medoid, and each medoid to the most central of its points.
    """
    for _ in range(limit):
        labels = torch.cat([distances(medoids, rows).argmin(0) for rows in _blocks(torch.arange(n), len(medoids))])
        members = [torch.nonzero(labels == i).squeeze(1) for i in range(len(medoids))]
        moved = torch.stack([_best_medoid(distances, *pair) for pair in zip(members, medoids, strict=True)])
        if torch.equal(moved, medoids):
            break
        medoids = moved
    return medoids


def _best_medoid(distances: Distances, members: Tensor, medoid: Tensor) -> Tensor:
    """Return the member with the smallest summed distance to its cluster; the old medoid wins a tie."""
    if len(members) == 0:
        return medoid
    costs = _sum_distances(distances, members, members)
    old = costs[members == medoid]
    best = costs.argmin()
    return members[best] if len(old) == 0 or costs[best] < old[0] else medoid


def _sum_distances(distances: Distances, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the sum of the distances from each point of `rows` (a,) to those of `columns` (b,)."""
    # written in place: small results between large blocks would keep malloc from using the space of the blocks again
    sums = torch.empty(len(rows), dtype=torch.float64)
    for part in _blocks(torch.arange(len(rows)), len(columns)):
        sums[part] = distances(rows[part], columns).sum(1).double()
    return sums


def _blocks(rows: Tensor, columns: int) -> tuple[Tensor, ...]:
    """Return the indices in parts whose distance matrices, of so many columns, stay small."""
    return rows.split(max(2**22 // columns, 1))


CENTROIDS: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "all": lambda mu, k, seed: torch.arange(len(mu)),
    "kmeans": _kmeans,
    "random": lambda mu, k, seed: torch.randperm(len(mu), generator=torch.Generator().manual_seed(seed))[:k],
    "first": lambda mu, k, seed: torch.arange(k),
    "published": _published,
}
