"""Pictures of a latent space: maps of codes and samples; volume element, curves, distances and decoded strips as in
Fig. 1 of Chadebec & Allassonnière (2022); the pull-back check of their Section 4.4.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Map = tuple[Tensor, Tensor, Tensor]
"""x (columns,), y (rows,) and values (rows, columns)."""


def geometry_figure(
    volume: Map,
    mu: Tensor,
    labels: Tensor | None,
    *,
    curves: dict[str, Tensor],
    strips: dict[str, Tensor],
    distance: Map,
    source: Tensor,
) -> "Figure":
    """Return Fig. 1: the log volume element with codes and curves, the distance map, and the decoded strips below.

    Args:
        volume: log sqrt det G on a grid.
        mu: codes (n, 2).
        labels: of the codes (n,), or None.
        curves: for each kind, such as "affine" and "geodesic", curves (b, m, 2).
        strips: for each kind the decoded points of its curves, (b, m, c, h, w) in [0, 1].
        distance: the Riemannian distance from `source` on a grid.
        source: the point (2,) that distances start from.
    """
    from matplotlib import pyplot

    rows = [(f"{name} {i + 1}", strip) for name, kind in strips.items() for i, strip in enumerate(kind)]
    figure = pyplot.figure(figsize=(12, 5 + 0.8 * len(rows)), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[5, 0.8 * len(rows)])[:, 0]
    left, right = upper.subplots(1, 2)
    draw_map(left, volume, "log volume element log sqrt(det G)")
    colours = {"color": "white"} if labels is None else {"c": labels.numpy(), "cmap": "tab10"}
    left.scatter(*mu.detach().cpu().numpy().T, s=4, **colours)
    draw_curves(left, curves)
    draw_map(right, distance, "Riemannian distance", levels=20)
    right.scatter(*source.detach().cpu().numpy(), marker="*", s=120, c="white", edgecolors="black")
    for ax, (name, strip) in zip(lower.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        picture = torch.cat(list(strip.detach().cpu()), dim=2).permute(1, 2, 0)  # (h, m w, c)
        ax.imshow(picture.squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1, aspect="equal")
        ax.set(xticks=[], yticks=[])
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def draw_map(ax: "Axes", values: Map, label: str, *, levels: int = 0) -> None:
    """Draw a map on `ax` with its colour bar, and `levels` contour lines."""
    x, y, z = (t.detach().cpu().numpy() for t in values)
    # rasterized: as vectors, every cell of the map would be a path of its own in a PDF
    image = ax.pcolormesh(x, y, z, shading="nearest", cmap="viridis", rasterized=True)
    if levels:
        ax.contour(x, y, z, levels=levels, colors="white", linewidths=0.5)
    ax.figure.colorbar(image, ax=ax, label=label)
    ax.set(xlabel="z1", ylabel="z2", xlim=(float(x[0]), float(x[-1])), ylim=(float(y[0]), float(y[-1])))


def draw_curves(ax: "Axes", curves: dict[str, Tensor]) -> None:
    """Draw curves (b, m, 2) of each kind in its own style, with a legend; all start at a dot."""
    for style, (name, points) in zip(("--", "-", ":", "-."), curves.items(), strict=False):
        for i, curve in enumerate(points.detach().cpu().numpy()):
            ax.plot(*curve.T, style, color=f"C{3 + i % 6}", linewidth=2, label=name if i == 0 else None)
            ax.plot(*curve[[0, -1]].T, "o", color=f"C{3 + i % 6}")
    ax.legend(loc="upper right")


def pullback_figure(predicted: Tensor, observed: Tensor) -> "Figure":
    """Return the diagonals of `J^T J / s^2 + I` (n, d) against those of Sigma^-1 (n, d), one colour a dimension."""
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(5, 5), layout="constrained")
    # logarithmic axes, since precisions of active and inactive dimensions differ by orders of magnitude
    for j, (a, b) in enumerate(zip(observed.detach().cpu().numpy().T, predicted.detach().cpu().numpy().T, strict=True)):
        ax.loglog(a, b, ".", markersize=3, alpha=0.5, label=f"z{j + 1}" if predicted.shape[1] <= 10 else None)
    ends = [float(min(observed.min(), predicted.min())), float(max(observed.max(), predicted.max()))]
    ax.loglog(ends, ends, color="black", linewidth=1)
    ax.set(xlabel="encoder: 1 / variance", ylabel="decoder: diagonal of J^T J / s^2 + I")
    if predicted.shape[1] <= 10:
        ax.legend()
    return figure


def principal_directions(mu: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (d,) of codes (n, d) and their first principal directions (d, min(2, d))."""
    mean = mu.mean(0)
    return mean, torch.linalg.svd(mu - mean, full_matrices=False).Vh[:2].T


def latent_map(mu: Tensor, *, labels: Tensor | None = None, samples: dict[str, Tensor] | None = None) -> "Figure":
    """Return a figure of codes (n, d), coloured by labels (n,), beside one panel for each set of samples (m, d).

    With d above 2 everything is projected on the codes' first two principal directions. The axes frame the codes with
    a margin; samples beyond it are counted in the panel's title.
    """
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    mean, directions = principal_directions(mu.detach().cpu().double())
    panels = {"codes": mu, **(samples or {})}
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4 * len(panels), 4), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    codes = project(mu, mean, directions)
    low, high = codes.min(0).values, codes.max(0).values
    # the codes alone set the axes: a sampler that runs away would shrink everything else to a dot
    low, high = low - 0.3 * (high - low) - 1e-6, high + 0.3 * (high - low) + 1e-6
    for ax, (name, points) in zip(axes[0], panels.items(), strict=True):
        xy = project(points, mean, directions)
        if name == "codes":
            colours = ax.scatter(*xy.T, c=labels, s=6, cmap="tab10" if labels is not None else None)
            if labels is not None:
                # between whole numbers the bar would show labels that do not exist
                figure.colorbar(colours, ax=ax, label="label", ticks=MaxNLocator(integer=True))
        else:
            ax.scatter(*codes.T, c="0.85", s=4)
            ax.scatter(*xy.T, s=6)
        outside = int(((xy < low) | (xy > high)).any(1).sum())
        ax.set_title(f"{name} (n = {len(points)}{f', {outside} outside' if outside else ''})")
        ax.set(xlim=(float(low[0]), float(high[0])), ylim=(float(low[1]), float(high[1])))
        ax.set_xlabel("first direction")
    axes[0, 0].set_ylabel("second direction")
    return figure


def project(points: Tensor, mean: Tensor, directions: Tensor) -> Tensor:
    """Return points (n, d) in the coordinates (n, 2) of `principal_directions`, float64, on the CPU."""
    xy = (points.detach().cpu().double() - mean) @ directions
    return torch.nn.functional.pad(xy, (0, 2 - xy.shape[1]))  # a latent space of one dimension lies on a line
