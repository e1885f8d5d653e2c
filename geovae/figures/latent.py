"""Maps of the latent space: codes and samples on the two directions in which the codes vary most."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
                figure.colorbar(colours, ax=ax, label="label")
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
