"""Crop and pad a volume to a given grid, keeping every voxel's place in mm."""

from typing import Literal, get_args

import numpy as np

from geovae.checks import check_choice
from geovae.mri.steps.mask import centre_of_mass
from geovae.mri.volume import Volume, shifted

Centre = Literal["grid", "mass"]
Shape3 = tuple[int, int, int]


def crop_or_pad(volume: Volume, shape: Shape3, *, centre: Centre = "grid", mask: np.ndarray | None = None) -> Volume:
    """Return the volume (x, y, z) cropped, and padded with 0, to `shape` voxels.

    The new grid is centred on the middle of the old one (for volumes aligned with a template), or on the centre of mass
    of the brain `mask` (x, y, z). The history counts the `brain_voxels_lost`. Without a mask, voxels above 0 are brain.

    Raises:
        ValueError: for a shape that is not three numbers above 0, or an unknown centre.
    """
    brain = volume.data > 0 if mask is None else mask
    start = _window_start(volume, shape, centre, brain)
    if tuple(shape) == volume.shape and not start.any():  # the usual case for T88: nothing is counted or copied
        return volume.after("crop", start=[0, 0, 0], shape=list(shape), brain_voxels_lost=0)
    lost = np.count_nonzero(brain) - np.count_nonzero(window(brain, start, shape))
    data = window(volume.data, start, shape)
    affine = shifted(volume.affine, start)
    return volume.after(
        "crop", data, affine, start=start.tolist(), shape=list(shape), centre=centre, brain_voxels_lost=int(lost)
    )


def _window_start(volume: Volume, shape: Shape3, centre: Centre, brain: np.ndarray) -> np.ndarray:
    """Return the index (3,) in the volume of the first voxel of the window; negative where it is padded."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"`shape` must be three numbers above 0 (x, y, z), got {tuple(shape)}")
    check_choice("centre", centre, get_args(Centre))
    if centre == "grid":
        return np.asarray((np.array(volume.shape) - np.array(shape)) // 2)
    return np.asarray(np.round(centre_of_mass(brain) - (np.array(shape) - 1) / 2).astype(int))


def window(data: np.ndarray, start: np.ndarray, shape: Shape3) -> np.ndarray:
    """Return the window of `shape` from index `start` (3,) of `data` (x, y, z); a view where nothing is padded."""
    low, high = np.maximum(-start, 0), np.maximum(start + shape - data.shape, 0)
    if low.any() or high.any():
        data = np.pad(data, np.stack([low, high], axis=1))
    return np.asarray(data[tuple(slice(a, a + n) for a, n in zip(start + low, shape, strict=True))])
