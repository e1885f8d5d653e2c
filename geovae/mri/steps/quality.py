"""Three numbers that reveal a bad volume, from its three middle planes and the brain's mask there.

The grey level has no unit, so none of them depends on a linear change of it.
"""

from collections.abc import Mapping

import numpy as np

from geovae.mri.steps.mask import otsu_threshold

Planes = Mapping[str, np.ndarray]  # axial (x, y), coronal (x, z) and sagittal (y, z)


def quality_numbers(planes: Planes, masks: Planes) -> dict[str, float]:
    """Return sharpness, contrast and symmetry of the middle planes of a volume in RAS order, inside its mask."""
    grey = {axis: np.asarray(plane, np.float64) for axis, plane in planes.items()}
    return {measure.__name__: round(measure(grey, masks), 4) for measure in (sharpness, contrast, symmetry)}


def sharpness(planes: Planes, masks: Planes) -> float:
    """Return the root mean square of the Laplacian (per voxel) over the standard deviation of the grey.

    Blur lowers it, noise and the ghosts of motion raise it. The edge of the mask does not count.
    """
    from scipy.ndimage import binary_erosion, laplace

    inner = {axis: binary_erosion(mask) for axis, mask in masks.items()}
    edges = _inside({axis: laplace(plane) for axis, plane in planes.items()}, inner)
    spread = _inside(planes, inner).std() if len(edges) else 0.0
    return float(np.sqrt(np.square(edges).mean()) / spread) if spread else 0.0


def contrast(planes: Planes, masks: Planes) -> float:
    """Return the share of the grey's variance that Otsu's two classes explain.

    1 for two greys, .64 for a normal distribution: tissues that cannot be told apart.
    """
    values = _inside(planes, masks)
    variance = values.var() if len(values) else 0.0
    if not variance:
        return 0.0
    bright = values > otsu_threshold(values)
    share = bright.mean()
    return float(share * (1 - share) * (values[bright].mean() - values[~bright].mean()) ** 2 / variance)


def symmetry(planes: Planes, masks: Planes) -> float:
    """Return the correlation of the axial and coronal planes with themselves, left and right exchanged.

    The mirror is the column of the mask's centre of mass, to half a voxel.
    """
    pairs = []
    for axis in ("axial", "coronal"):
        columns = np.arange(len(masks[axis]))
        weights = masks[axis].sum(1)
        if not weights.any():
            continue
        mirrored = round(2 * float(np.average(columns, weights=weights))) - columns
        kept = (mirrored >= 0) & (mirrored < len(columns))
        here, there = columns[kept], mirrored[kept]
        either = masks[axis][here] | masks[axis][there]
        pairs.append(np.stack([planes[axis][here][either], planes[axis][there][either]]))
    values = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0))
    if values.size == 0 or not values.std(axis=1).all():
        return 0.0
    return float(np.corrcoef(values)[0, 1])


def _inside(planes: Planes, masks: Planes) -> np.ndarray:
    """Return the values (n,) of all planes inside their masks."""
    return np.concatenate([planes[axis][masks[axis]] for axis in planes])
