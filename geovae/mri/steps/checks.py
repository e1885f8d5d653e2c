"""What makes a volume unfit, one clear sentence each; nothing is repaired in silence."""

from collections.abc import Mapping

import numpy as np

from geovae.mri.problems import Unfit, some
from geovae.mri.volume import Volume, voxel_sizes

IMPLAUSIBLE = 1e6  # magnetic resonance values are at most some ten thousand
MIN_BRAIN = 0.02  # share of the grid
MAX_OBLIQUITY = 5.0  # degrees


def check_values(data: np.ndarray) -> list[str]:
    """Return the problems of the values of a volume (x, y, z)."""
    low, high = float(data.min()), float(data.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(data.size - np.isfinite(data).sum())
        return [f"{bad} of {data.size} voxels are NaN or infinite: set them to 0, or leave the volume out"]
    if low == high:
        return [f"constant: every voxel is {low:g}"]
    if max(abs(low), abs(high)) > IMPLAUSIBLE:
        return [f"values from {low:g} to {high:g} are implausible: damaged, or of another byte order or type?"]
    if -low > high:
        return [f"values from {low:g} to {high:g} are mostly below 0: not an image of a brain?"]
    return []


def check_affine(affine: np.ndarray) -> list[str]:
    """Return the problems of an affine (4, 4), mm."""
    if not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
        return ["the affine holds NaN or infinity, or its last row is not 0 0 0 1"]
    sizes = voxel_sizes(affine)
    if min(sizes) <= 0 or abs(np.linalg.det(affine[:3, :3])) < 1e-3 * np.prod(sizes):
        return ["the affine is singular: voxels would lie in a plane; pass affine='table' or 'identity'"]
    return []


def obliquity(affine: np.ndarray) -> float:
    """Return the largest angle, in degrees, between an axis of voxels and the nearest axis of space."""
    directions = affine[:3, :3] / voxel_sizes(affine)
    return float(np.degrees(np.arccos(np.clip(np.abs(directions).max(axis=0), 0, 1)).max()))


def oblique_warning(affine: np.ndarray) -> list[str]:
    """Return a warning if the grid is tilted by more than 5 degrees."""
    angle = obliquity(affine)
    if angle <= MAX_OBLIQUITY:
        return []
    return [f"the grid is oblique by {angle:.1f} degrees: the volume is resampled to the axes of space"]


def check_mask(mask: np.ndarray) -> list[str]:
    """Return the problem of a mask (x, y, z) that holds too little."""
    share = np.count_nonzero(mask) / mask.size
    if share >= MIN_BRAIN:
        return []
    return [f"the mask holds {share:.2%} of the voxels, a brain at least {MIN_BRAIN:.0%}: the wrong file or mask?"]


def check_same_grid(volume: Volume, mask: Volume) -> list[str]:
    """Return the problem of a mask whose voxels are not those of the volume."""
    if mask.shape != volume.shape:
        return [f"the mask has shape {mask.shape}, the volume {volume.shape}"]
    if not np.allclose(mask.affine, volume.affine, atol=1e-2):
        off = np.abs(mask.affine - volume.affine).max()
        return [f"the mask has the volume's shape but another affine, off by up to {off:g}"]
    return []


def check_same_shapes(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the problem of sessions (by id) whose images differ in shape."""
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for id, shape in shapes.items():
        by_shape.setdefault(tuple(shape), []).append(id)
    if len(by_shape) <= 1:
        return []
    groups = sorted(by_shape.items(), key=lambda item: -len(item[1]))
    listed = "; ".join(f"{shape}: {some(ids, 3)}" for shape, ids in groups)
    return [f"the images have mixed shapes ({listed}): pass `shape` to crop and pad them to one"]


def raise_if(problems: list[str]) -> None:
    """Raise Unfit, a ValueError, with all sentences, if there are any."""
    if problems:
        raise Unfit(problems)
