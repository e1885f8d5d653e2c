"""Generated slices beside real ones: nearest neighbours, interpolation, and the latent space by age and CDR."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRADES = {0.0: "tab:green", 0.5: "gold", 1.0: "tab:orange", 2.0: "tab:red", 3.0: "darkred"}


def nearest(generated: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of `generated` (m, h, w) the row of `real` (n, h, w) nearest in grey, and their rms difference.

    Both are uint8, or floats from 0 to 1; differences are of greys from 0 to 1.
    """
    if np.ndim(generated) != 3 or np.ndim(real) != 3 or generated.shape[1:] != real.shape[1:] or not len(real):
        raise ValueError(f"pictures must be (m, h, w) and (n, h, w), got {np.shape(generated)} and {np.shape(real)}")
    flat = _grey(real).reshape(len(real), -1)
    squares = np.einsum("ij,ij->i", flat, flat)
    rows, distances = [], []
    for picture in _grey(generated).reshape(len(generated), -1):
        squared = squares - 2 * flat @ picture + picture @ picture
        rows.append(int(squared.argmin()))
        distances.append(float(np.sqrt(max(squared.min(), 0) / picture.size)))
    return np.array(rows), np.array(distances)


def real_versus_generated(
    generated: np.ndarray, real: np.ndarray, *, ids: Sequence[str] | None = None, limit: int = 8
) -> "Figure":
    """Return generated pictures (m, h, w), below each its nearest of `real` (n, h, w), and the difference of the two.

    Args:
        generated: uint8, or floats from 0 to 1.
        real: such as the training set: a difference near 0 is a copy, not a new brain.
        ids: (n,) of the real pictures.
        limit: how many are shown.
    """
    from matplotlib.figure import Figure

    rows, distances = nearest(generated[:limit], real)
    shown = _grey(generated[:limit])
    neighbours = _grey(real[rows])
    height, width = shown.shape[1:]
    wide = 1.5 * max(1.0, width / height)  # inches of a picture
    figure = Figure(figsize=(wide * len(rows) + 0.9, 3 * (wide * height / width + 0.15)), layout="constrained")
    axes = figure.subplots(3, len(rows), squeeze=False)
    for i, row in enumerate(rows):
        axes[0, i].imshow(shown[i], cmap="gray", vmin=0, vmax=1)
        axes[1, i].imshow(neighbours[i], cmap="gray", vmin=0, vmax=1)
        difference = axes[2, i].imshow(shown[i] - neighbours[i], cmap="RdBu_r", vmin=-0.5, vmax=0.5)
        axes[1, i].set_title(str(ids[row]) if ids is not None else f"row {row}", fontsize=7, pad=2)
        axes[2, i].set_title(f"rms {distances[i]:.3f}", fontsize=7, pad=2)
    for ax, name in zip(axes[:, 0], ("generated", "nearest real", "difference"), strict=True):
        ax.set_ylabel(name, fontsize=8)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    figure.colorbar(difference, ax=list(axes[2]), shrink=0.8)
    return figure


def interpolation_gif(frames: np.ndarray, *, milliseconds: int = 120, back: bool = True) -> bytes:
    """Return an endless animated GIF of pictures (t, h, w), such as those decoded along a geodesic.

    Args:
        frames: uint8, or floats from 0 to 1.
        milliseconds: that each frame is shown.
        back: run to the end and back again.
    """
    from PIL import Image

    if np.ndim(frames) != 3 or len(frames) < 2:
        raise ValueError(f"`frames` must have shape (t, h, w) with t at least 2, got {np.shape(frames)}")
    # 64 greys: noise in the last bits would be most of the file
    pictures = [Image.fromarray((np.rint(_grey(f) * 63) * (255 / 63)).round().astype(np.uint8)) for f in frames]
    pictures += pictures[-2:0:-1] if back else []
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
    return file.getvalue()


def latent_map_of_cohort(mu: np.ndarray, *, ages: Sequence[float], cdr: Sequence[float]) -> "Figure":
    """Return codes (n, d) on their first two principal directions, coloured by age and by CDR, side by side.

    Args:
        mu: codes.
        ages: (n,) years; NaN is drawn as a cross.
        cdr: (n,), NaN is not assessed.
    """
    from matplotlib.figure import Figure

    codes = np.asarray(mu, float)
    if codes.ndim != 2 or not len(codes) == len(ages) == len(cdr):
        raise ValueError(f"`mu` (n, d), `ages` and `cdr` must be equally many: {codes.shape}, {len(ages)}, {len(cdr)}")
    xy = _project(codes)
    age, grade = np.asarray(ages, float), np.asarray(cdr, float)
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    known = ~np.isnan(age)
    left.scatter(*xy[~known].T, marker="x", color="0.6", s=14)
    colours = left.scatter(*xy[known].T, c=age[known], s=14, cmap="viridis")
    figure.colorbar(colours, ax=left, label="age (years)")
    right.scatter(*xy[np.isnan(grade)].T, s=10, color="0.75", label="not assessed")
    for value in sorted(set(grade[~np.isnan(grade)].tolist())):
        chosen = grade == value
        right.scatter(*xy[chosen].T, s=16, color=GRADES.get(value, "black"), label=f"CDR {value:g}")
    right.legend(fontsize=7)
    for ax, name in ((left, "age"), (right, "CDR")):
        ax.set(xlabel="first direction", title=f"{name} (n = {len(xy)})")
    left.set_ylabel("second direction")
    return figure


def _project(codes: np.ndarray) -> np.ndarray:
    """Return codes (n, d) on their first two principal directions (n, 2); a line if d is 1."""
    centred = codes - codes.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    xy = centred @ directions.T
    return np.pad(xy, ((0, 0), (0, 2 - xy.shape[1])))


def _grey(pictures: np.ndarray) -> np.ndarray:
    """Return pictures as float32 from 0 to 1."""
    array = np.asarray(pictures)
    return array.astype(np.float32) / 255 if array.dtype == np.uint8 else np.clip(array, 0, 1).astype(np.float32)
