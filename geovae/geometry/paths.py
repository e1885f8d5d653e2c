"""Riemannian distances over a graph of codes, and clustering with them.

Neighbouring codes are joined by straight segments whose length is Eq. 4; SciPy's shortest paths over this graph are
upper bounds of the geodesic distances, which `refine` lowers by minimising the energy from the path. `volume_paths`
are the same for the cost of Eq. 12.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from geovae.checks import check_finite
from geovae.devices import full_precision
from geovae.geometry.centroids import alternate_medoids
from geovae.geometry.curves import SmoothMetric, SquaredNorm, curve_lengths, geodesics, resample, smooth, straight

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Distances(NamedTuple):
    """Distances (n,) from one point and, for each point, the one before it on the shortest path (-9999: none)."""

    distances: Tensor
    predecessors: Tensor


@full_precision()
@torch.no_grad()
def neighbour_graph(
    metric: SquaredNorm, points: Tensor, *, n_neighbours: int = 10, n_quadrature: int = 8
) -> "csr_matrix":
    """Return the symmetric graph (n, n) of Riemannian segment lengths between Euclidean neighbours of points (n, d).

    Separate components are joined by their closest pairs, so that every distance is finite.
    """
    from scipy.sparse import csr_matrix

    n = len(points)
    if not 1 <= n_neighbours < n:
        raise ValueError(f"`n_neighbours` must lie in 1..{n - 1} for {n} points, got {n_neighbours}")
    check_finite(points=points)
    nearest = [torch.cdist(x, points).topk(n_neighbours + 1, largest=False).indices for x in points.split(500)]
    target = torch.cat(nearest).flatten().cpu().numpy()
    source = np.repeat(np.arange(n), n_neighbours + 1)
    edges = _joined(points, *_without_loops(source, target))
    lengths = _segment_lengths(metric, points, edges, n_quadrature)
    graph = csr_matrix((lengths, (edges[:, 0], edges[:, 1])), shape=(n, n))
    return graph.maximum(graph.T)  # each edge was measured in one direction only


def _without_loops(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keep = source != target
    return source[keep], target[keep]


def _joined(points: Tensor, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return each edge once (e, 2), with extra ones until the graph is connected."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.unique(np.sort(np.stack([source, target], 1), 1), axis=0)  # neighbours of each other are one edge
    while True:
        graph = csr_matrix((np.ones(len(edges)), edges.T), shape=(len(points),) * 2)
        count, labels = connected_components(graph, directed=False)
        if count == 1:
            return edges
        inside = torch.from_numpy(np.flatnonzero(labels == 0))
        outside = torch.from_numpy(np.flatnonzero(labels != 0))
        gaps = torch.cdist(points[inside], points[outside])
        i, j = divmod(int(gaps.argmin()), len(outside))
        edges = np.vstack([edges, np.sort([[int(inside[i]), int(outside[j])]], 1)])


def _segment_lengths(metric: SquaredNorm, points: Tensor, edges: np.ndarray, n_quadrature: int) -> np.ndarray:
    parts = [
        curve_lengths(metric, straight(points[e[:, 0]], points[e[:, 1]], n_quadrature + 1))
        for e in torch.from_numpy(edges).split(2000)
    ]
    # A zero would be no edge at all to scipy.
    return torch.cat(parts).double().cpu().numpy().clip(min=1e-300)


def _shortest(graph: "csr_matrix", sources: int | np.ndarray, **options: bool) -> Any:
    """Return the lengths of the shortest paths from every source to all points."""
    from scipy.sparse.csgraph import dijkstra

    return dijkstra(graph, directed=False, indices=sources, **options)


def distances_from(graph: "csr_matrix", source: int) -> Distances:
    """Return the shortest-path distances (n,) of every point from the point `source`, with the paths."""
    distances, predecessors = _shortest(graph, source, return_predecessors=True)
    return Distances(torch.from_numpy(distances), torch.from_numpy(predecessors.astype(np.int64)))


def path_to(found: Distances, target: int) -> list[int]:
    """Return the indices of the shortest path from the source to `target`, both included."""
    path = [target]
    while (before := int(found.predecessors[path[-1]])) >= 0:
        path.append(before)
    return path[::-1]


@full_precision()
def refine(
    metric: SmoothMetric, points: Tensor, found: Distances, targets: Tensor, *, n_points: int = 50, n_steps: int = 300
) -> tuple[Tensor, Tensor]:
    """Return lengths (b,) and curves (b, m, d) to the indices `targets` (b,), at most the graph's own lengths.

    Each shortest path is smoothed by minimising its energy.
    """
    routes = [points[path_to(found, int(t))] for t in targets]
    curves = torch.cat([resample(r.unsqueeze(0), n_points) if len(r) > 1 else _still(r, n_points) for r in routes])
    smoothed = smooth(curves)
    found_curves = geodesics(metric, curves[:, 0], curves[:, -1], initial=smoothed, n_points=n_points, n_steps=n_steps)
    with torch.no_grad():
        # Smoothing may leave the path in a worse place: the path itself is an upper bound.
        lengths = torch.minimum(curve_lengths(metric, found_curves), found.distances[targets.cpu()].to(curves))
    return lengths, found_curves


class _InverseVolume(NamedTuple):
    """The metric I / det G, whose lengths are Eq. 12, times a constant: `most` is the largest log volume."""

    metric: SmoothMetric
    most: Tensor

    def squared_norm(self, z: Tensor, v: Tensor) -> Tensor:
        # In many dimensions the volume spans more than float32 holds, and far out more than float64 does.
        log_costs = 2 * (self.most - self.metric.log_volume(z)).double()
        return v.double().square().sum(1) * log_costs.clamp_max(600).exp()


@full_precision()
@torch.no_grad()
def volume_paths(
    metric: SmoothMetric, points: Tensor, start: Tensor, end: Tensor, *, n_points: int = 50, most: int = 1000
) -> Tensor:
    """Return the polylines (b, m, d) from start (b, d) to end (b, d) of least cost (Eq. 12) along edges between
    neighbouring points (n, d): a good start for `interpolate`. At most `most` points are used, evenly subsampled.
    """
    via = points[:: -(-len(points) // most)]
    nodes, b = torch.cat([start, end, via]), len(start)
    cost = _InverseVolume(metric, metric.log_volume(nodes).max())
    graph = neighbour_graph(cost, nodes, n_neighbours=min(10, len(nodes) - 1))
    routes = [path_to(distances_from(graph, i), b + i) for i in range(b)]
    return torch.cat([resample(nodes[route].unsqueeze(0), n_points) for route in routes])


def _still(point: Tensor, n_points: int) -> Tensor:
    return point.unsqueeze(0).expand(1, n_points, -1)


class Clusters(NamedTuple):
    """Labels (n,) in 0..k-1, the indices of the medoids (k,), and the summed distance of points to their medoids."""

    labels: Tensor
    medoids: Tensor
    cost: float


def geodesic_medoids(
    graph: "csr_matrix", k: int, *, seed: int = 0, n_init: int = 4, n_iterations: int = 50
) -> Clusters:
    """Cluster the n points of a graph around k medoids under its shortest-path distances.

    k-means++ starts, then medoids and labels in turn until nothing moves; the cheapest of `n_init` runs.
    """
    n = graph.shape[0]
    if not 1 <= k <= n:
        raise ValueError(f"`k` must lie in 1..{n}, got {k}")
    random = np.random.default_rng(seed)

    def distances(a: Tensor, b: Tensor) -> Tensor:
        return torch.from_numpy(_shortest(graph, a.numpy())[:, b.numpy()])

    starts = [torch.from_numpy(_spread_medoids(graph, k, random)) for _ in range(n_init)]
    runs = []
    for medoids in (alternate_medoids(distances, start, n, n_iterations) for start in starts):
        nearest = distances(medoids, torch.arange(n)).min(0)
        runs.append(Clusters(nearest.indices, medoids, float(nearest.values.sum())))
    return min(runs, key=lambda c: c.cost)


def _spread_medoids(graph: "csr_matrix", k: int, random: np.random.Generator) -> np.ndarray:
    medoids = [int(random.integers(graph.shape[0]))]
    nearest = _shortest(graph, medoids[0])
    while len(medoids) < k:
        chances = nearest**2
        chances = chances / chances.sum() if chances.sum() > 0 else None  # None: uniform, where all points coincide
        medoids.append(int(random.choice(len(nearest), p=chances)))
        nearest = np.minimum(nearest, _shortest(graph, medoids[-1]))
    return np.array(medoids)
