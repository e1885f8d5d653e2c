"""Quality control of brain volumes: who is in the cohort, how the volumes lie, and what was done to their values.

Planes are in RAS order, pictures as they are stored. Neurological views have the patient's left on the left. The
letters of the sides are printed, because nobody can tell the sides of a brain from its voxels.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VIEWS = ("neurological", "radiological")
PLANES: dict[str, tuple[int, int]] = {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}  # axes across and up
SIDES = (("L", "R"), ("P", "A"), ("I", "S"))


def cohort_mosaic(
    pictures: np.ndarray,
    ids: Sequence[str],
    *,
    cdr: Sequence[float] | None = None,
    ages: Sequence[float] | None = None,
    limit: int = 48,
    masked_ids: bool = False,
    sides: Sequence[str] = (),
) -> "Figure":
    """Return a figure of the first `limit` of pictures (n, h, w), with id, CDR and age.

    Args:
        pictures: uint8, or floats from 0 to 1.
        ids: (n,).
        cdr: (n,), NaN where not assessed.
        ages: (n,) years, NaN where unknown.
        limit: number of pictures shown; showing them on a shared server may count as redistribution.
        masked_ids: show running numbers in place of ids.
        sides: letters of the patient's sides at the left, right, top and bottom of every picture.
    """
    from matplotlib.figure import Figure

    _check(pictures, 3, "pictures", "(n, h, w)")
    if len(ids) != len(pictures):
        raise ValueError(f"`ids` must be as many as the {len(pictures)} pictures, got {len(ids)}")
    n = min(limit, len(pictures))
    columns = max(1, int(np.ceil(np.sqrt(n * 1.4))))
    rows = -(-n // columns)
    figure = Figure(figsize=(1.2 * columns, 1.65 * rows + 0.35), layout="constrained")
    for i, ax in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        ax.set_axis_off()
        if i < n:
            ax.imshow(pictures[i], cmap="gray")
            _letters(ax, sides[:2], 6)
            name = f"#{i + 1}" if masked_ids else str(ids[i])
            ax.set_title(f"{name}\n{_about(cdr, ages, i)}".rstrip(), fontsize=6.5, pad=2)
    figure.suptitle(f"{n} of {len(pictures)}; CDR -: not assessed", fontsize=8)
    return figure


def mean_and_sd(pictures: np.ndarray, *, sides: Sequence[str] = ()) -> "Figure":
    """Return the mean and standard deviation of pictures (n, h, w): a flipped volume shows as a ghost in both.

    `sides` are the letters of the patient's sides at the left, right, top and bottom of every picture.
    """
    from matplotlib.figure import Figure

    _check(pictures, 3, "pictures", "(n, h, w)")
    # One picture at a time: all pictures of a cohort in float64 would fill the memory.
    mean, square = (np.zeros(pictures.shape[1:]) for _ in range(2))
    for picture in pictures:
        mean += picture
        square += np.square(picture, dtype=np.float64)
    mean /= len(pictures)
    sd = np.sqrt(np.maximum(square / len(pictures) - mean**2, 0))
    figure = Figure(figsize=(7, 4), layout="constrained")
    for ax, image, name, colours in zip(
        figure.subplots(1, 2), (mean, sd), ("mean", "standard deviation"), ("gray", "magma"), strict=True
    ):
        ax.set_axis_off()
        ax.set_title(f"{name} of {len(pictures)}", fontsize=9)
        _letters(ax, sides, 9)
        figure.colorbar(ax.imshow(image, cmap=colours), ax=ax, shrink=0.8)
    return figure


def planes_at(
    data: np.ndarray, affine: np.ndarray, mm: Sequence[float] | None = None
) -> tuple[dict[str, np.ndarray], tuple[int, int, int]]:
    """Return the three planes through a point of a volume (x, y, z) in RAS order, and the voxel (3,) where they meet.

    Args:
        data: the volume.
        affine: (4, 4) to mm.
        mm: the point (x, y, z); None is the middle of the grid.
    """
    _check(data, 3, "data", "(x, y, z)")
    if mm is None:
        x, y, z = _middle(data.shape)
    else:
        index = np.linalg.solve(affine[:3, :3], np.asarray(mm, float) - affine[:3, 3])
        x, y, z = (int(np.rint(i)) for i in index)
        if not all(0 <= i < n for i, n in zip((x, y, z), data.shape, strict=True)):
            raise ValueError(f"the point {tuple(mm)} mm is outside the volume, whose voxel there would be {(x, y, z)}")
    return {"sagittal": data[x], "coronal": data[:, y], "axial": data[:, :, z]}, (x, y, z)


def orthogonal_views(
    planes: Mapping[str, np.ndarray],
    affine: np.ndarray,
    meeting: Sequence[int] | None = None,
    *,
    view: str = "neurological",
    title: str = "",
    lines: bool = True,
) -> "Figure":
    """Return sagittal, coronal and axial views with mm, correct aspect and the letters of the patient's sides.

    Args:
        planes: `sagittal` (y, z), `coronal` (x, z) and `axial` (x, y), as `planes_at` gives them.
        affine: (4, 4) of the volume in RAS order, mm.
        meeting: voxel (3,) in which the planes meet; None: the middle of the grid.
        view: `neurological` or `radiological` (left and right, and front and back, exchanged).
        title: above the views.
        lines: draw the positions of the other planes.
    """
    from matplotlib.figure import Figure

    if view not in VIEWS:
        raise ValueError(f"`view` must be neurological or radiological, got {view!r}")
    if set(planes) != set(PLANES):
        raise ValueError(f"`planes` must be {', '.join(PLANES)}, got {', '.join(planes)}")
    if meeting is None:
        meeting = _middle((*planes["axial"].shape, planes["coronal"].shape[1]))
    figure = Figure(figsize=(10.5, 4.1), layout="constrained")
    point = affine[:3, :3] @ np.asarray(meeting, float) + affine[:3, 3]
    top = max(float(plane.max()) for plane in planes.values())
    widths = [float(np.ptp(_ends(affine, PLANES[name][0], planes[name].shape[0]))) for name in PLANES]
    axes = figure.subplots(1, 3, width_ratios=widths)  # so that all views have one scale
    for ax, (name, (across, up)) in zip(axes, PLANES.items(), strict=True):
        _view(ax, planes[name], affine, (across, up), view == "radiological", top)
        through = 3 - across - up
        ax.set_title(f"{name}, {'xyz'[through]} = {point[through]:.0f} mm", fontsize=9)
        if lines:
            ax.axvline(point[across], color="tab:cyan", linewidth=0.5)
            ax.axhline(point[up], color="tab:cyan", linewidth=0.5)
    figure.suptitle(
        f"{title}  ({view}: patient's left is on the {'left' if view == VIEWS[0] else 'right'})", fontsize=9
    )
    return figure


def histograms(before: np.ndarray, edges: np.ndarray, after: np.ndarray) -> "Figure":
    """Return the histograms of all volumes before and after normalisation, one line each, the median in black.

    Args:
        before: counts (n, bins).
        edges: (n, bins + 1), in each volume's own unit.
        after: counts (n, bins) of values from 0 to 1, without the background.
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
    """Return a self-contained page in which the planes of a volume can be moved with the mouse; 0.6 MB at 2 mm.

    Args:
        data: (x, y, z), floats from 0 to 1, or uint8.
        affine: (4, 4), mm.
        title: of the page.
    """
    import warnings

    import nibabel as nib

    _check(data, 3, "data", "(x, y, z)")
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
            title=title,
            colorbar=False,
            resampling_interpolation="nearest",
        )
        return str(page.get_standalone())


def _view(ax: "Axes", plane: np.ndarray, affine: np.ndarray, axes: tuple[int, int], mirrored: bool, top: float) -> None:
    """Draw one plane on axes in mm, with the letters of its four sides."""
    limits = [_ends(affine, axis, n) for axis, n in zip(axes, plane.shape, strict=True)]
    extent = (*limits[0], *limits[1])
    # one grey scale for the three views: `top` is the highest value of all of them
    ax.imshow(plane.T, origin="lower", cmap="gray", extent=extent, aspect="equal", vmin=0, vmax=top or 1)
    (left, right), (bottom, upper) = (SIDES[axis] for axis in axes)
    if mirrored:
        ax.invert_xaxis()
        left, right = right, left
    _letters(ax, (left, right, upper, bottom), 10)
    ax.set_xlabel(f"{'xyz'[axes[0]]} (mm)", fontsize=8)
    ax.set_ylabel(f"{'xyz'[axes[1]]} (mm)", fontsize=8)
    ax.tick_params(labelsize=7)


def _letters(ax: "Axes", sides: Sequence[str], size: float) -> None:
    """Write the letters of the patient's sides at the left, right, top and bottom; two letters are left and right."""
    for (x, y), letter in zip(((0.04, 0.5), (0.96, 0.5), (0.5, 0.96), (0.5, 0.04)), sides, strict=False):
        style: dict[str, Any] = {"color": "yellow", "ha": "center", "va": "center", "fontweight": "bold"}
        ax.text(x, y, letter, transform=ax.transAxes, fontsize=size, **style)


def _middle(shape: Sequence[int]) -> list[int]:
    return [round((n - 1) / 2) for n in shape]


def _ends(affine: np.ndarray, axis: int, n: int) -> tuple[float, float]:
    """Return the mm of the first and last face of `n` voxels along an axis."""
    size, first = affine[axis, axis], affine[axis, 3]
    return float(first - size / 2), float(first + size * (n - 0.5))


def _about(cdr: Sequence[float] | None, ages: Sequence[float] | None, i: int) -> str:
    parts = []
    if cdr is not None:
        parts.append(f"CDR {'-' if np.isnan(cdr[i]) else format(float(cdr[i]), 'g')}")
    if ages is not None:
        parts.append("age ?" if np.isnan(ages[i]) else f"{ages[i]:.0f} y")
    return ", ".join(parts)


def _check(array: np.ndarray, ndim: int, name: str, shape: str) -> None:
    if np.ndim(array) != ndim or 0 in np.shape(array):
        raise ValueError(f"`{name}` must have shape {shape} and not be empty, got {np.shape(array)}")
