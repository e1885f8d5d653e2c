"""Maps of a 2-d latent space: the log volume element, or any function, on a regular grid."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from geovae.geometry.curves import SmoothMetric
from geovae.geometry.metric import LatentMetric
from geovae.geometry.paths import distances_from, neighbour_graph


class Grid(NamedTuple):
    """Values (rows, columns) at `x` (columns,) and `y` (rows,): values[i, j] belongs to the point (x[j], y[i])."""

    x: Tensor
    y: Tensor
    values: Tensor


def box_around(points: Tensor, margin: float = 0.2) -> tuple[float, float, float, float]:
    """Return (x low, x high, y low, y high) around points (n, 2), wider by `margin` of the larger side all round."""
    low, high = points.min(0).values, points.max(0).values
    extra = margin * float((high - low).max()) or 1.0
    return (float(low[0]) - extra, float(high[0]) + extra, float(low[1]) - extra, float(high[1]) + extra)


def map_on_grid(
    function: Callable[[Tensor], Tensor], box: tuple[float, float, float, float], *, size: int, like: Tensor
) -> Grid:
    """Return `function` (n, 2) -> (n,) on `size` x `size` points of the box, with the type and device of `like`."""
    if size < 2:
        raise ValueError(f"`size` must be at least 2, got {size}")
    x = torch.linspace(box[0], box[1], size, dtype=like.dtype, device=like.device)
    y = torch.linspace(box[2], box[3], size, dtype=like.dtype, device=like.device)
    points = torch.stack([x.repeat(size), y.repeat_interleave(size)], dim=1)
    with torch.no_grad():
        return Grid(x, y, function(points).view(size, size))


def volume_grid(metric: LatentMetric, points: Tensor | None = None, *, size: int = 200, margin: float = 0.2) -> Grid:
    """Return log sqrt det G of a 2-d metric on a square around `points` (n, 2), or around its centroids."""
    if metric.d != 2:
        raise ValueError(f"a volume map needs a 2-d latent space, got d = {metric.d}")
    around = metric.centroids if points is None else points
    return map_on_grid(metric.log_volume, box_around(around, margin), size=size, like=metric.centroids)


def distance_grid(
    metric: SmoothMetric, source: Tensor, box: tuple[float, float, float, float], *, size: int = 60
) -> Grid:
    """Return the Riemannian distance of each grid point from `source` (2,), by shortest paths over the grid itself.

    Every point is joined to its 24 neighbours, whose directions are at most 14 degrees off: distances are a few per
    cent too long at most.
    """
    around = map_on_grid(lambda z: z[:, 0], box, size=size, like=source)
    points = torch.stack([around.x.repeat(size), around.y.repeat_interleave(size)], dim=1)
    graph = neighbour_graph(metric, torch.cat([points, source.unsqueeze(0)]), n_neighbours=24, n_quadrature=4)
    distances = distances_from(graph, size * size).distances[:-1]
    return Grid(around.x, around.y, distances.view(size, size))
