"""Which voxels are brain: those of a mask file, those that are not background, those above Otsu's threshold, or all.

Values have no unit and no zero: none of the rules but `nonzero` changes with a linear change of the grey.
"""

from typing import Literal, get_args

import numpy as np

from geovae.checks import check_choice
from geovae.mri.problems import raise_if
from geovae.mri.volume import Volume, to_mm

MaskRule = Literal["nonzero", "file", "background", "otsu", "none"]
MIN_BRAIN = 0.02  # share of the grid
# ml, of a mask of the brain with its ventricles: heads of adults in OASIS-1 hold 1,120 to 1,990 (eTIV), the brain mask
# of MNI152 1,887; a head with skull and neck holds 3,000 and more
PLAUSIBLE = (800.0, 2200.0)


def brain_mask(volume: Volume, rule: MaskRule = "nonzero", file: Volume | None = None) -> np.ndarray:
    """Return a boolean mask (x, y, z) in the volume's memory order.

    The rules `nonzero` and `background` need a skull-stripped volume; `otsu` separates head from air, not brain from
    skull, and takes the background to be dark. For `file` and `background`, the voxels above 1/2 of `file` count, a
    mask in the same grid.

    Raises:
        ValueError: for an unknown rule, no mask, or a mask of another grid.
    """
    check_choice("mask", rule, get_args(MaskRule))
    if rule == "nonzero":
        return np.asarray(volume.data != 0)
    if rule == "otsu":
        return np.asarray(volume.data > otsu_threshold(volume.data))
    if rule == "none":
        return np.ones_like(volume.data, dtype=bool)
    if file is None:
        raise ValueError(f"the mask rule `{rule}` needs a mask volume")
    raise_if(check_same_grid(volume, file))
    return np.asarray(file.data > 0.5)


def border_value(data: np.ndarray) -> float:
    """Return the median of the outer planes of `data` (x, y, z): air, or what a program wrote around the brain."""
    return float(np.median(np.concatenate([face.ravel() for face in _faces(data)])))


def is_surrounded(data: np.ndarray) -> bool:
    """Return whether most of the outer planes of `data` (x, y, z) have one value, and other values lie below it."""
    low, border = float(data.min()), border_value(data)
    share = np.mean([(face == border).mean() for face in _faces(data)])
    return low < border and bool(share > 0.5)


def _faces(data: np.ndarray) -> list[np.ndarray]:
    """Return the first and last plane along each axis of `data` (x, y, z), in pairs."""
    return [np.moveaxis(data, axis, 0)[[0, -1]] for axis in range(3)]  # numpy.take would read the whole volume


def fill_nan(volume: Volume) -> Volume:
    """Return the volume with background for NaN: 0, or where values lie below 0 the lowest of them."""
    bad = np.isnan(volume.data)
    if not bad.any():
        return volume
    value = min(0.0, float(np.nanmin(volume.data)))
    data = np.where(bad, np.float32(value), volume.data)
    return volume.after("fill nan", data, voxels=int(np.count_nonzero(bad)), value=value)


def check_millilitres(millilitres: float) -> list[str]:
    """Return the remark on a brain mask of an implausible volume."""
    low, high = PLAUSIBLE
    if low <= millilitres <= high:
        return []
    return [
        f"the brain mask holds {millilitres:,.0f} ml, a human brain {low:,.0f} to {high:,.0f}: is skull or neck in it, "
        "or is brain missing? `mask_folder` and `mask_pattern` choose another mask"
    ]


def check_mask(mask: np.ndarray) -> list[str]:
    """Return the problem of a mask (x, y, z) that is too small for a brain."""
    share = np.count_nonzero(mask) / mask.size
    if share >= MIN_BRAIN:
        return []
    return [f"the mask holds {share:.2%} of the voxels, a brain at least {MIN_BRAIN:.0%}: the wrong file or mask?"]


def check_same_grid(volume: Volume, mask: Volume) -> list[str]:
    """Return the problem of a mask on another grid than the volume."""
    if mask.shape != volume.shape:
        return [f"the mask has shape {mask.shape}, the volume {volume.shape}"]
    if not np.allclose(mask.affine, volume.affine, atol=1e-2):
        off = np.abs(mask.affine - volume.affine).max()
        return [f"the mask has the volume's shape but another affine, off by up to {off:g}"]
    return []


def strip(volume: Volume, mask: np.ndarray) -> Volume:
    """Return the volume with everything outside of `mask` (x, y, z) set to 0."""
    return volume.after("strip", np.where(mask, volume.data, np.float32(0)), voxels_kept=int(np.count_nonzero(mask)))


def otsu_threshold(data: np.ndarray) -> float:
    """Return the threshold that maximises the variance between the two classes (Otsu 1979)."""
    counts, edges = np.histogram(data, bins=256)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1].astype(float)
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    mean_below = sums[:-1] / np.maximum(below, 1)
    mean_above = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * (mean_below - mean_above) ** 2
    best = np.flatnonzero(between == between.max())
    return float(edges[1:][best].mean())  # all thresholds between two separate peaks are equally good: the middle


def centre_of_mass(mask: np.ndarray) -> np.ndarray:
    """Return the mean voxel index (3,) of a mask (x, y, z); the middle of the grid if it is empty."""
    if not mask.any():
        return (np.array(mask.shape) - 1) / 2
    counts = (mask.sum((1, 2)), mask.sum((0, 2)), mask.sum((0, 1)))
    return np.array([np.average(np.arange(len(n)), weights=n) for n in counts])


def brain_numbers(volume: Volume, mask: np.ndarray) -> dict[str, object]:
    """Return the volume in ml and the centre of mass in mm (x, y, z) of a mask (x, y, z)."""
    millilitres = np.count_nonzero(mask) * abs(np.linalg.det(volume.affine[:3, :3])) / 1000
    centre = to_mm(volume.affine, centre_of_mass(mask))
    return {"brain_ml": round(float(millilitres), 3), "centre_mm": [round(float(c), 2) for c in centre]}
