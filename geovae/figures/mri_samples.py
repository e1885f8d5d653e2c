"""Generated brains beside real ones: nearest neighbours, interpolation, and the latent space by age and CDR."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from geovae.figures.directions import Directions
from geovae.figures.latent import principal_directions, project

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRADES = {0.0: "tab:green", 0.5: "gold", 1.0: "tab:orange", 2.0: "tab:red", 3.0: "darkred"}


def real_versus_generated(
    generated: np.ndarray, real: np.ndarray, names: Sequence[str], directions: Directions
) -> "Figure":
    """Return generated pictures (m, h, w), below each its nearest real one, and the difference of the two.

    A difference near 0 is a copy, not a new brain. Its rms is in units of the grey range, 0 to 1. Pictures are uint8,
    or floats from 0 to 1; `names` (m,) are of the real ones.
    """
    from matplotlib.figure import Figure

    if np.ndim(generated) != 3 or np.shape(generated) != np.shape(real) or not len(generated):
        raise ValueError(f"pictures must be (m, h, w), alike and not empty: {np.shape(generated)}, {np.shape(real)}")
    top, middle = _grey(generated), _grey(real)
    difference = top - middle
    m, height, width = top.shape
    wide = 1.5 * max(1.0, width / height)  # inches of a picture
    figure = Figure(figsize=(wide * m + 0.9, 3 * (wide * height / width + 0.15)), layout="constrained")
    axes = figure.subplots(3, m, squeeze=False)
    for i, name in enumerate(names):
        for ax, picture in zip(axes[:2, i], (top[i], middle[i]), strict=True):
            ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
            directions.mark(ax, 7)
        colours = axes[2, i].imshow(difference[i], cmap="RdBu_r", vmin=-0.5, vmax=0.5)
        directions.mark(axes[2, i], 7, color="black")
        axes[1, i].set_title(name, fontsize=7, pad=2, parse_math=False)
        axes[2, i].set_title(f"rms {np.sqrt(np.square(difference[i]).mean()):.3f}", fontsize=7, pad=2)
    for ax, row in zip(axes[:, 0], ("generated", "nearest real", "generated - real"), strict=True):
        ax.set_ylabel(row, fontsize=8)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    figure.colorbar(colours, ax=list(axes[2]), shrink=0.8)
    figure.suptitle(directions.caption, fontsize=8)
    return figure


def geodesic_strip(curve: np.ndarray, line: np.ndarray, directions: Directions) -> "Figure":
    """Return pictures (t, h, w) along a geodesic above those along the straight line between the same codes."""
    from matplotlib.figure import Figure

    n, height, width = np.shape(curve)
    figure = Figure(figsize=(1.3 * max(1.0, width / height) * n, 3.4), layout="constrained")
    axes = figure.subplots(2, n, squeeze=False)
    for row, pictures, name in zip(axes, (curve, line), ("geodesic", "straight line"), strict=True):
        row[0].set_ylabel(name, fontsize=8)
        for ax, picture in zip(row, pictures, strict=True):
            ax.imshow(_grey(picture), cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            directions.mark(ax, 6)
    figure.suptitle(directions.caption, fontsize=8)
    return figure


def interpolation_gif(frames: np.ndarray, directions: Directions) -> bytes:
    """Return an endless animated GIF of pictures (t, h, w), uint8 or floats from 0 to 1, to the end and back again."""
    from PIL import Image

    if np.ndim(frames) != 3 or len(frames) < 2:
        raise ValueError(f"`frames` must have shape (t, h, w) with t at least 2, got {np.shape(frames)}")
    # 64 greys: GIF compresses repeated values, and noise in the last bits would be most of the file
    greys = [(np.rint(_grey(frame) * 63) * (255 / 63)).round().astype(np.uint8) for frame in frames]
    pictures = [Image.fromarray(directions.write(grey)) for grey in greys]
    pictures += pictures[-2:0:-1]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=120, loop=0)  # milliseconds each
    return file.getvalue()


def latent_map_of_cohort(mu: Tensor, *, ages: Sequence[float], cdr: Sequence[float]) -> "Figure":
    """Return codes (n, d) on their first two principal directions, coloured by age and by CDR, side by side.

    `ages` (n,) are in years; NaN (unknown) is drawn as a cross. `cdr` (n,) is NaN where it was not assessed.
    """
    from matplotlib.figure import Figure

    if mu.ndim != 2 or not len(mu) == len(ages) == len(cdr):
        shapes = f"{tuple(mu.shape)}, {len(ages)}, {len(cdr)}"
        raise ValueError(f"`mu` (n, d), `ages` and `cdr` must be equally many: {shapes}")
    xy = project(mu, *principal_directions(mu.double())).numpy()
    age, grade = np.asarray(ages, float), np.asarray(cdr, float)
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    has_age = ~np.isnan(age)
    left.scatter(*xy[~has_age].T, marker="x", color="0.6", s=14)
    colours = left.scatter(*xy[has_age].T, c=age[has_age], s=14, cmap="viridis")
    figure.colorbar(colours, ax=left, label="age (years)")
    right.scatter(*xy[np.isnan(grade)].T, s=10, color="0.75", label="no CDR")
    for value in sorted(set(grade[~np.isnan(grade)].tolist())):
        chosen = grade == value
        right.scatter(*xy[chosen].T, s=16, color=GRADES.get(value, "black"), label=f"CDR {value:g}")
    right.legend(fontsize=7)
    for ax, name in ((left, "age"), (right, "CDR")):
        ax.set(xlabel="first direction", title=f"{name} (n = {len(xy)})")
    left.set_ylabel("second direction")
    return figure


def _grey(pictures: np.ndarray) -> np.ndarray:
    """Return pictures as float32 from 0 to 1."""
    array = np.asarray(pictures)
    return array.astype(np.float32) / 255 if array.dtype == np.uint8 else np.clip(array, 0, 1).astype(np.float32)
