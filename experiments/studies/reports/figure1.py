"""Fig. 1 on a 2-d latent space, for the first seed of each data set: volume element, curves, distances, strips."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from experiments.leaderboard import Entry
from experiments.page import Part, Picture
from experiments.studies.cells import TRAINED, Study
from experiments.studies.execute import Outcome
from experiments.studies.reports.scores import scores
from geovae.figures.geometry import geometry_figure
from geovae.geometry import LatentMetric, distance_grid, interpolate, straight, volume_grid, volume_paths
from geovae.geometry.grids import box_around
from geovae.samplers import RiemannianSampler
from geovae.saved_model import load_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS_ON_A_CURVE, IMAGES_IN_A_STRIP = 60, 12
CAPTION = (
    "Volume element with codes, affine (straight) and geometric curves (Eq. 12), Riemannian distances from one code, "
    "and what both kinds of curves decode to"
)


def figure1_report(study: Study, entries: list[Entry], outcomes: list[Outcome]) -> Iterator[Part]:
    """Yield a figure for each data set, and the scores."""
    for outcome in outcomes:
        if outcome.cell.seed == study.seeds[0] and outcome.variant == TRAINED:
            saved = load_model(outcome.model_file)
            options = outcome.cell.configs[TRAINED]["sampler"]["riemannian"]
            metric = RiemannianSampler(**options).fit(saved.codes).metric
            figure = figure1(saved.model, saved.codes.mu, saved.splits().train.labels, metric)
            yield Picture(f"figure1-{outcome.cell.data}", CAPTION, figure)
    yield from scores(study, entries, outcomes)


def figure1(model: Any, mu: Tensor, labels: Tensor | None, metric: LatentMetric, *, pairs: int = 3) -> "Figure":
    """Return Fig. 1 of a `model` that decodes latents (b, 2), for codes (n, 2), labels (n,) and the metric of Eq. 7.

    Curves are drawn between `pairs` of codes that lie far apart.

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
        labels,
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
