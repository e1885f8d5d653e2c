"""The paper's Fig. 1 on a 2-d latent space: volume element, affine and geometric curves, distances, decoded strips."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geovae.figures.geometry import geometry_figure
from geovae.geometry import LatentMetric, distance_grid, interpolate, straight, volume_grid, volume_paths
from geovae.geometry.grids import box_around

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS_ON_A_CURVE, IMAGES_IN_A_STRIP = 60, 12


def figure1(model: Any, mu: Tensor, labels: Tensor | None, metric: LatentMetric, *, pairs: int = 3) -> "Figure":
    """Return Fig. 1 for codes (n, 2) and the metric of Eq. 7 on them.

    Args:
        model: decodes latents (b, 2).
        mu: codes (n, 2).
        labels: of the codes (n,).
        metric: on the latent space.
        pairs: curves to draw, between codes that lie far apart.

    Raises:
        ValueError: unless the latent space has two dimensions.
    """
    if mu.shape[1] != 2:
        raise ValueError(f"Fig. 1 needs a latent space of 2 dimensions, got {mu.shape[1]}: set model.latent_dim to 2")
    like = next(model.parameters())
    mu = mu.to(metric.dtype)  # float64 where posteriors are narrow beside the codes
    start, end = mu[far_pairs(mu, pairs)].unbind(1)
    along = volume_paths(metric, metric.centroids, start, end)
    curves = {
        "affine": straight(start, end, POINTS_ON_A_CURVE),
        "geometric": interpolate(metric, start, end, initial=along, n_points=POINTS_ON_A_CURVE),
    }
    chosen = torch.linspace(0, POINTS_ON_A_CURVE - 1, IMAGES_IN_A_STRIP).round().long()
    with torch.no_grad():
        strips = {
            name: model.decode(points[:, chosen].flatten(0, 1).to(like)).unflatten(0, (pairs, IMAGES_IN_A_STRIP))
            for name, points in curves.items()
        }
    source = start[0]
    return geometry_figure(
        volume_grid(metric, mu),
        mu,
        labels=labels,
        curves=curves,
        strips=strips,
        distance=distance_grid(metric, source, box_around(mu)),
        source=source,
    )


def far_pairs(mu: Tensor, pairs: int) -> Tensor:
    """Return the indices (pairs, 2) of codes (n, d) far apart, none used twice: each time the farthest pair left."""
    subset = torch.linspace(0, len(mu) - 1, min(len(mu), 500)).round().long()
    distances = torch.cdist(mu[subset], mu[subset])
    chosen = []
    for _ in range(pairs):
        i, j = divmod(int(distances.argmax()), len(subset))
        chosen.append((int(subset[i]), int(subset[j])))
        # curves that begin or end near one that is chosen would lie on top of it
        near = torch.cdist(mu[subset], mu[subset[[i, j]]]).min(1).values < 0.15 * distances.max()
        distances[near] = distances[:, near] = -1.0
    return torch.tensor(chosen)
