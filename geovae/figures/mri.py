"""Quality control of brain volumes: who is in the cohort, how the volumes lie, and what was done to their values.

Planes are in RAS order, pictures as they are stored. Neurological views have the patient's left on the left. The
letters of the sides are printed, because nobody can tell the sides of a brain from its voxels.
"""

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geovae.figures.directions import PLANES, Directions, convention, edge_letters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def cohort_mosaic(
    pictures: np.ndarray,
    names: Sequence[str],
    directions: Directions,
    *,
    cdr: Sequence[float],
    ages: Sequence[float],
    at_least: Sequence[bool] = (),
) -> "Figure":
    """Return a figure of pictures (n, h, w) with their names, CDR and age.

    `cdr` (n,) is NaN where it was not assessed, `ages` (n,) in years where unknown; `at_least` (n,)
    says which of them are lower bounds.
    """
    from matplotlib.figure import Figure

    _check(pictures)
    n = len(pictures)
    columns = max(1, int(np.ceil(np.sqrt(n * 1.4))))
    rows = -(-n // columns)
    figure = Figure(figsize=(1.2 * columns, 1.65 * rows + 0.35), layout="constrained")
    for i, ax in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        ax.set_axis_off()
        if i < n:
            ax.imshow(pictures[i], cmap="gray")
            directions.mark(ax, 5)
            grade = "-" if np.isnan(cdr[i]) else f"{cdr[i]:g}"
            age = "age ?" if np.isnan(ages[i]) else f"{ages[i]:.0f}{'+' * any(at_least[i : i + 1])} y"
            # a `$` in the name of a file is no formula
            ax.set_title(f"{names[i]}\nCDR {grade}, {age}", fontsize=6.5, pad=2, parse_math=False)
    figure.suptitle(directions.caption, fontsize=8)
    return figure


def mean_and_sd(pictures: np.ndarray, directions: Directions) -> "Figure":
    """Return the mean and standard deviation of pictures (n, h, w): a flipped volume shows as a ghost in both."""
    from matplotlib.figure import Figure

    _check(pictures)
    # One picture at a time: all pictures of a cohort in float64 would fill the memory.
    mean, square = (np.zeros(pictures.shape[1:]) for _ in range(2))
    for picture in pictures:
        mean += picture
        square += np.square(picture, dtype=np.float64)
    mean /= len(pictures)
    sd = np.sqrt(np.maximum(square / len(pictures) - mean**2, 0))
    figure = Figure(figsize=(7, 4), layout="constrained")
    shown = (mean, "mean", "gray"), (sd, "standard deviation", "magma")
    _, height, width = pictures.shape
    rows = 2 if width > 2 * height else 1  # the planes of a volume are wide
    for ax, (image, name, colours) in zip(figure.subplots(rows, 2 // rows), shown, strict=True):
        ax.set_axis_off()
        ax.set_title(f"{name} of {len(pictures)}", fontsize=9)
        directions.mark(ax, 9)
        figure.colorbar(ax.imshow(image, cmap=colours), ax=ax, shrink=0.8)
    figure.suptitle(directions.caption, fontsize=9)
    return figure


def orthogonal_views(
    planes: Mapping[str, np.ndarray],
    affine: np.ndarray,
    *,
    masks: Mapping[str, np.ndarray] | None = None,
    view: str = "neurological",
    title: str = "",
) -> "Figure":
    """Return the sagittal (y, z), coronal (x, z) and axial (x, y) middle planes of a volume with axes in mm.

    Aspect and scale are those of the brain, lines show the positions of the other planes, letters the patient's sides,
    the outline the planes of a mask, `masks`.
    `affine` (4, 4) is the volume's, in RAS order; `radiological` exchanges left and right, and front and back.
    """
    from matplotlib.figure import Figure

    caption = convention("axial", view)
    figure = Figure(figsize=(10.5, 4.1), layout="constrained")
    meeting = [round((n - 1) / 2) for n in (*planes["axial"].shape, planes["coronal"].shape[1])]
    point = affine[:3, :3] @ meeting + affine[:3, 3]
    top = max(float(plane.max()) for plane in planes.values())
    widths = [float(np.ptp(_ends(affine, PLANES[name][0], planes[name].shape[0]))) for name in PLANES]
    axes = figure.subplots(1, 3, width_ratios=widths)  # so that all views have one scale
    for ax, (name, (across, up)) in zip(axes, PLANES.items(), strict=True):
        _view(ax, planes[name], affine, (across, up), view == "radiological", top)
        if masks is not None and 0 < masks[name].mean() < 1:
            x, y = (_centres(affine, axis, n) for axis, n in zip((across, up), planes[name].shape, strict=True))
            ax.contour(x, y, masks[name].T, levels=[0.5], colors="tab:red", linewidths=0.6)
        through = 3 - across - up
        ax.set_title(f"{name}, {'xyz'[through]} = {point[through]:.0f} mm", fontsize=9)
        ax.axvline(point[across], color="tab:cyan", linewidth=0.5)
        ax.axhline(point[up], color="tab:cyan", linewidth=0.5)
    figure.suptitle(f"{title}  ({caption})", fontsize=9, parse_math=False)
    return figure


def histograms(before: np.ndarray, edges: np.ndarray, after: np.ndarray) -> "Figure":
    """Return the histograms of all volumes before and after normalisation, one line each, the median in black.

    `before` are counts (n, bins) with `edges` (n, bins + 1) in each volume's own unit, `after` counts (n, bins) of
    values from 0 to 1, without the background.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    # without the lowest bin, which holds the background and dwarfs the others
    for counts, edge in zip(before, edges, strict=True):
        middle = (edge[1:] + edge[:-1]) / 2
        left.plot(middle[1:], counts[1:] / max(counts[1:].sum(), 1), color="tab:blue", alpha=0.3, linewidth=0.7)
    share = after / np.maximum(after.sum(axis=1, keepdims=True), 1)
    grey = (np.arange(share.shape[1]) + 0.5) / share.shape[1]
    right.plot(grey, share.T, color="tab:blue", alpha=0.3, linewidth=0.7)
    right.plot(grey, np.median(share, axis=0), color="black", linewidth=1.2)
    left.set(xlabel="value in the file", ylabel="share of voxels", title="before (without the lowest bin)")
    right.set(xlabel="grey", title="after")
    return figure


def viewer_html(data: np.ndarray, affine: np.ndarray, *, title: str = "") -> str:
    """Return a self-contained page in which the planes of a volume (x, y, z) can be moved; 0.6 MB at 2 mm."""
    import warnings

    import nibabel as nib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nilearn, about its own defaults
        from nilearn.plotting import view_img

        page: Any = view_img(
            nib.Nifti1Image(np.asarray(data, np.float32), affine),
            bg_img=False,
            cmap="gray",
            symmetric_cmap=False,
            vmin=float(data.min()),
            vmax=float(data.max()),
            threshold=None,
            cut_coords=tuple((affine @ [*((np.array(data.shape) - 1) / 2), 1])[:3]),  # the middle
            black_bg=True,
            title=html.escape(title),  # nilearn puts it into the page as it is
            colorbar=False,
            resampling_interpolation="nearest",
        )
        caption = f"<p>mm; {convention('axial', 'neurological')}</p>"
        return str(page.get_standalone()).replace("</body>", f"{caption}</body>")


def _view(ax: "Axes", plane: np.ndarray, affine: np.ndarray, axes: tuple[int, int], mirrored: bool, top: float) -> None:
    """Draw one plane on axes in mm, with the letters of its four sides."""
    limits = [_ends(affine, axis, n) for axis, n in zip(axes, plane.shape, strict=True)]
    extent = (*limits[0], *limits[1])
    # one grey scale for the three views: `top` is the highest value of all of them
    ax.imshow(plane.T, origin="lower", cmap="gray", extent=extent, aspect="equal", vmin=0, vmax=top or 1)
    if mirrored:
        ax.invert_xaxis()
    Directions(edge_letters(*axes, mirrored), "").mark(ax, 10)
    ax.set_xlabel(f"{'xyz'[axes[0]]} (mm)", fontsize=8)
    ax.set_ylabel(f"{'xyz'[axes[1]]} (mm)", fontsize=8)
    ax.tick_params(labelsize=7)


def _centres(affine: np.ndarray, axis: int, n: int) -> np.ndarray:
    """Return the mm (n,) of the voxels' centres along an axis."""
    return np.asarray(affine[axis, 3] + affine[axis, axis] * np.arange(n))


def _ends(affine: np.ndarray, axis: int, n: int) -> tuple[float, float]:
    """Return the mm of the first and last face of `n` voxels along an axis."""
    size, first = affine[axis, axis], affine[axis, 3]
    return float(first - size / 2), float(first + size * (n - 0.5))


def _check(pictures: np.ndarray) -> None:
    if np.ndim(pictures) != 3 or 0 in np.shape(pictures):
        raise ValueError(f"`pictures` must have shape (n, h, w) and not be empty, got {np.shape(pictures)}")
