"""Axes in the order right, front, up (RAS+), and voxels of one size by linear interpolation where that is needed.

Linear: a cubic spline rings (values from 0 to 1000 become -410 to 1407).
"""

import numpy as np

from geovae.mri.steps.checks import MAX_OBLIQUITY, obliquity
from geovae.mri.volume import Volume, to_mm


def canonical(volume: Volume) -> Volume:
    """Return the volume with axes permuted and flipped so that x runs to the right, y to the front, z upwards.

    No value changes, every voxel keeps its place in mm, and no memory is copied.
    """
    from nibabel.orientations import aff2axcodes, apply_orientation, inv_ornt_aff, io_orientation

    moves = io_orientation(volume.affine)
    affine = volume.affine @ inv_ornt_aff(moves, volume.shape)
    axes = "".join(aff2axcodes(volume.affine))
    angle = round(obliquity(volume.affine), 2)
    return volume.after(
        "canonical", apply_orientation(volume.data, moves), affine, axes_before=axes, obliquity_degrees=angle
    )


def needs_resampling(volume: Volume, spacing: float) -> bool:
    """Whether voxels differ from cubes of `spacing` mm along the axes of space (up to 5 degrees)."""
    return bool(not np.allclose(volume.spacing, spacing, atol=1e-3) or obliquity(volume.affine) > MAX_OBLIQUITY)


def resample(volume: Volume, spacing: float) -> Volume:
    """Return the volume on a grid of cubes of `spacing` mm along the axes of space; as it is if that is so already.

    The grid covers all of the volume (x, y, z); outside of it the value is 0. Where voxels grow by a whole number that
    divides the grid, they become means of blocks; else the volume is first smoothed with a Gaussian that widens a voxel
    of the old size to the new one. Either way no detail aliases.

    Raises:
        ValueError: if `spacing` is not positive.
    """
    if not spacing > 0:
        raise ValueError(f"`spacing` must be above 0 mm, got {spacing}")
    if not needs_resampling(volume, spacing):
        return volume
    from scipy.ndimage import affine_transform, gaussian_filter

    affine, shape = covering_grid(volume, spacing)
    blocks = whole_blocks(volume, spacing)
    if blocks is not None:
        return volume.after("resample", block_means(volume.data, blocks), affine, spacing_mm=spacing, shape=list(shape))
    factor = np.maximum(spacing / volume.spacing, 1)
    sigma = np.sqrt(factor**2 - 1) / 2.355  # full widths at half maximum add in squares
    data = gaussian_filter(volume.data, sigma, mode="constant") if sigma.any() else volume.data
    matrix = np.linalg.inv(volume.affine) @ affine
    data = affine_transform(data, matrix[:3, :3], matrix[:3, 3], shape, order=1, mode="constant", cval=0.0)
    return volume.after("resample", data, affine, spacing_mm=spacing, shape=list(shape))


def whole_blocks(volume: Volume, spacing: float) -> tuple[int, int, int] | None:
    """Return how many voxels (x, y, z) make one of `spacing` mm, or None if that is not whole or blocks are cut."""
    if not np.array_equal(volume.affine[:3, :3], np.diag(volume.spacing)):
        return None
    factor = spacing / np.asarray(volume.spacing)
    x, y, z = (round(float(f)) for f in factor)
    fits = np.allclose(factor, (x, y, z), atol=1e-6) and min(x, y, z) >= 1
    return (x, y, z) if fits and not any(n % f for n, f in zip(volume.shape, (x, y, z), strict=True)) else None


def block_means(data: np.ndarray, blocks: tuple[int, int, int]) -> np.ndarray:
    """Return the means of `data` (x, y, z) over blocks of so many voxels, float32."""
    for axis, size in enumerate(blocks):
        starts = (slice(None),) * axis
        total = data[(*starts, slice(0, None, size))].astype(np.float32)
        for offset in range(1, size):
            total += data[(*starts, slice(offset, None, size))]
        data = total / np.float32(size)
    return np.ascontiguousarray(data)


def covering_grid(volume: Volume, spacing: float) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return affine (4, 4) and shape of the grid along the axes of space that covers the volume to its faces."""
    ends = np.array(np.meshgrid(*((-0.5, n - 0.5) for n in volume.shape), indexing="ij")).reshape(3, -1).T
    corners = to_mm(volume.affine, ends)
    low, extent = corners.min(0), np.ptp(corners, axis=0)
    x, y, z = (max(2, int(np.ceil(e / spacing - 1e-3))) for e in extent)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = low + spacing / 2
    return affine, (x, y, z)
