"""Figures of an evaluation: the PRD curve (Sajjadi et al. 2018), samples with their neighbours (the paper's Fig. 3)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from geovae.images import check_images, to_float

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = Sequence[float] | np.ndarray


def prd_figure(curves: Mapping[str, tuple[Points, Points]]) -> "Figure":
    """Return a figure of named curves, each a pair (precision, recall) of equally many values in [0, 1]."""
    from matplotlib.figure import Figure

    if not curves:
        raise ValueError("`curves` is empty: there is nothing to draw")
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision", aspect="equal")
    for name, (precision, recall) in curves.items():
        if len(precision) != len(recall):
            raise ValueError(f"curve {name!r} has {len(precision)} precisions and {len(recall)} recalls")
        axes.plot(np.asarray(recall), np.asarray(precision), label=name)
    axes.legend(loc="lower left")
    return figure


def neighbour_figure(rows: Mapping[str, Tensor]) -> "Figure":
    """Return a figure with one named row of images for each of `rows`, (n, c, h, w) each, uint8 or float in [0, 1].

    Column i belongs together: with the rows "sample", "nearest training image" and "nearest reconstruction" this is
    the paper's Fig. 3.
    """
    from matplotlib.figure import Figure

    shapes = {name: tuple(check_images(images, name).shape) for name, images in rows.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"`rows` must be image sets of one shape (n, c, h, w), got {shapes or 'none'}")
    columns = next(iter(shapes.values()))[0]
    figure = Figure(figsize=(1 + columns, 1.1 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        axes[0].set_ylabel(name.replace(" ", "\n"), rotation=0, ha="right", va="center")
        for panel, image in zip(axes, images, strict=True):
            pixels = to_float(image).cpu().numpy().transpose(1, 2, 0)
            panel.imshow(pixels if pixels.shape[2] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
    return figure
