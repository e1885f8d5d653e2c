"""Which voxels are brain: those that are not zero, those of a mask file, those above Otsu's threshold, or all."""

from typing import Literal, get_args

import numpy as np

from geovae.checks import check_choice
from geovae.mri.problems import raise_if
from geovae.mri.volume import Volume, in_memory_order, to_mm

MaskRule = Literal["nonzero", "file", "otsu", "none"]
MIN_BRAIN = 0.02  # share of the grid


def brain_mask(volume: Volume, rule: MaskRule = "nonzero", file: Volume | None = None) -> np.ndarray:
    """Return a boolean mask (x, y, z) in the volume's memory order.

    The rule `nonzero` needs a skull-stripped volume; `otsu` separates head from air, not brain from skull; for `file`,
    the voxels above 0 of `file` count, a mask in the same grid.

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
        raise ValueError("the mask rule `file` needs a mask volume")
    raise_if(check_same_grid(volume, file))
    return np.asarray(file.data > 0)


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
    counts, edges = np.histogram(in_memory_order(data)[0], bins=256)
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
    total = np.count_nonzero(mask)
    if total == 0:
        return (np.array(mask.shape) - 1) / 2
    plane = mask.sum(axis=2, dtype=np.int64)  # (x, y): one pass over the volume serves two axes
    along_z = np.array([np.count_nonzero(mask[:, :, k]) for k in range(mask.shape[2])])
    sums = (plane.sum(axis=1), plane.sum(axis=0), along_z)
    return np.array([float(s @ np.arange(len(s))) / total for s in sums])


def brain_numbers(volume: Volume, mask: np.ndarray) -> dict[str, object]:
    """Return the volume in ml and the centre of mass in mm (x, y, z) of a mask (x, y, z)."""
    millilitres = np.count_nonzero(mask) * abs(np.linalg.det(volume.affine[:3, :3])) / 1000
    centre = to_mm(volume.affine, centre_of_mass(mask))
    return {"brain_ml": round(float(millilitres), 3), "centre_mm": [round(float(c), 2) for c in centre]}
