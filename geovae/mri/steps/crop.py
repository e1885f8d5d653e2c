"""Cut and pad a volume to a given grid, keeping every voxel's place in mm."""

from typing import Literal

import numpy as np

from geovae.mri.steps.mask import centre_of_mass
from geovae.mri.volume import Volume, shifted

Centre = Literal["grid", "mass"]
Shape3 = tuple[int, int, int]


def crop_or_pad(volume: Volume, shape: Shape3, *, centre: Centre = "grid", mask: np.ndarray | None = None) -> Volume:
    """Return the volume cut and padded with 0 to `shape` voxels.

    Args:
        volume: (x, y, z).
        shape: voxels of the result along each axis.
        centre: the middle of the new grid is that of the old one (volumes aligned with a template), or the centre of
            mass of the mask.
        mask: brain (x, y, z), for `mass` and to count `brain_voxels_lost` in the history; None takes voxels above 0.

    Raises:
        ValueError: for a shape that is not three numbers above 0, or an unknown centre.
    """
    start = window_start(volume, shape, centre, mask)
    if tuple(shape) == volume.shape and not start.any():
        return volume.after("crop", start=[0, 0, 0], shape=list(shape), brain_voxels_lost=0)
    brain = volume.data > 0 if mask is None else mask
    lost = np.count_nonzero(brain) - np.count_nonzero(cut(brain, start, shape))
    data = cut(volume.data, start, shape)
    affine = shifted(volume.affine, start)
    return volume.after(
        "crop", data, affine, start=start.tolist(), shape=list(shape), centre=centre, brain_voxels_lost=int(lost)
    )


def window_start(volume: Volume, shape: Shape3, centre: Centre = "grid", mask: np.ndarray | None = None) -> np.ndarray:
    """Return the index (3,) in the volume of the first voxel of the window; below 0 where it is padded."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"`shape` must be three numbers above 0 (x, y, z), got {tuple(shape)}")
    if centre == "grid":
        return (np.array(volume.shape) - np.array(shape)) // 2
    if centre != "mass":
        raise ValueError(f"`centre` must be grid or mass, got {centre!r}")
    middle = centre_of_mass(volume.data > 0 if mask is None else mask)
    return np.round(middle - (np.array(shape) - 1) / 2).astype(int)


def cut(data: np.ndarray, start: np.ndarray, shape: Shape3) -> np.ndarray:
    """Return the window of `shape` from index `start` (3,) of `data` (x, y, z); a view where nothing is padded."""
    stop = np.array(start) + shape
    inside = tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(start, stop, strict=True))
    found = data[inside]
    if found.shape == tuple(shape):
        return found
    result = np.zeros(shape, data.dtype)
    at = tuple(slice(max(-a, 0), max(-a, 0) + n) for a, n in zip(start, found.shape, strict=True))
    if found.size:
        result[at] = found
    return result
