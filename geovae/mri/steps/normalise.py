"""Grey values from 0 to 1, with limits taken from the whole volume.

Limits of single slices vary by 17 % along z; and minimum and maximum are ruled by one bright blob, which takes the
median grey of a brain from 202 to 91: so two percentiles inside the mask, and clipping.
"""

import numpy as np

from geovae.mri.volume import Volume, in_memory_order

PERCENTILES = (0.0, 99.5)


def percentile_limits(
    data: np.ndarray, mask: np.ndarray | None = None, percentiles: tuple[float, float] = PERCENTILES
) -> tuple[float, float]:
    """Return the two percentiles of `data` (x, y, z) inside `mask` (x, y, z), linear between values as numpy's.

    Raises:
        ValueError: for percentiles out of order, an empty mask, or values that are all the same.
    """
    low_percentile, high_percentile = percentiles
    if not 0 <= low_percentile < high_percentile <= 100:
        raise ValueError(f"`percentiles` must be 0 <= low < high <= 100, got {percentiles}")
    values = _inside(data, mask)
    if values.size == 0:
        raise ValueError("the mask is empty: no percentile can be taken")
    low, high = _percentile(values, low_percentile), _percentile(values, high_percentile)
    if not low < high:
        raise ValueError(f"percentiles {low_percentile:g} and {high_percentile:g} are both {low:g}: nothing to scale")
    return low, high


def normalise(volume: Volume, mask: np.ndarray | None = None, percentiles: tuple[float, float] = PERCENTILES) -> Volume:
    """Return the volume scaled so that its percentiles inside the mask become 0 and 1, clipped; see the limits kept
    in the history as `low` and `high`, in the volume's own unit.
    """
    low, high = percentile_limits(volume.data, mask, percentiles)
    data = scale(volume.data, low, high)
    return volume.after("normalise", data, low=low, high=high, percentiles=list(percentiles))


def scale(data: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return `data` of any shape with `low` at 0 and `high` at 1, clipped, float32."""
    scaled = np.subtract(data, np.float32(low))
    scaled *= np.float32(1 / (high - low))
    return np.clip(scaled, 0, 1, out=scaled)


def unscale(data: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values in [0, 1] in the volume's own unit again; what was clipped stays clipped."""
    return np.asarray(data, np.float32) * np.float32(high - low) + np.float32(low)


def _inside(data: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return the values inside the mask as a new array (n,), in any order."""
    if mask is None:
        return np.array(in_memory_order(data)[0]).ravel()
    data, mask = in_memory_order(data, mask)
    return data[mask]


def _percentile(values: np.ndarray, percentile: float) -> float:
    """Return one percentile of `values` (n,), whose order changes."""
    if percentile == 0:
        return float(values.min())
    if percentile == 100:
        return float(values.max())
    return float(np.percentile(values, percentile, overwrite_input=True))
