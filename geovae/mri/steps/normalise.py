"""Grey values from 0 to 1, with limits of the whole volume, and uint8 pictures of them.

The limits are two percentiles inside the mask. Limits of single slices vary by 17 % along z; minimum and maximum are
set by one bright blob, which lowers the median grey of a brain from 202 to 91.
"""

from typing import Literal, get_args

import numpy as np

from geovae.checks import check_choice
from geovae.mri.volume import Volume

PERCENTILES = (0.0, 99.5)
Quantisation = Literal["image", "volume"]


def normalise(volume: Volume, mask: np.ndarray | None = None, percentiles: tuple[float, float] = PERCENTILES) -> Volume:
    """Return the volume (x, y, z) scaled so that its percentiles inside the mask become 0 and 1, clipped.

    The limits are stored in the history as `low` and `high`, in the volume's own unit.
    """
    low, high = percentile_limits(volume.data, mask, percentiles)
    data = np.subtract(volume.data, np.float32(low))
    data *= np.float32(1 / (high - low))  # in place: a volume is 26 MB, and every worker holds one
    data = np.clip(data, 0, 1, out=data)
    return volume.after("normalise", data, low=low, high=high, percentiles=list(percentiles))


def percentile_limits(
    data: np.ndarray, mask: np.ndarray | None = None, percentiles: tuple[float, float] = PERCENTILES
) -> tuple[float, float]:
    """Return the two percentiles of `data` (x, y, z) inside `mask` (x, y, z), interpolated linearly as by numpy.

    Raises:
        ValueError: for percentiles out of order, an empty mask, or values that are all the same.
    """
    check_percentiles(percentiles)
    values = data if mask is None else data[mask]
    if values.size == 0:
        raise ValueError("the mask is empty: no percentile can be taken")
    low, high = (float(value) for value in np.percentile(values, percentiles))
    if not low < high:
        raise ValueError(f"percentiles {percentiles[0]:g} and {percentiles[1]:g} are both {low:g}: nothing to scale")
    return low, high


def check_percentiles(percentiles: tuple[float, float]) -> None:
    """Raise ValueError unless 0 <= low < high <= 100."""
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ValueError(f"`percentiles` must be 0 <= low < high <= 100, got {low:g} and {high:g}")


def unscale(data: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values in [0, 1] in the volume's own unit; clipped values stay clipped."""
    return np.asarray(np.asarray(data, np.float32) * np.float32(high - low) + np.float32(low))


def quantise(picture: np.ndarray, rule: Quantisation = "image") -> np.ndarray:
    """Return a picture (rows, columns) of values in [0, 1] as uint8, rounded to the nearest level.

    Args:
        picture: of a normalised volume.
        rule: `image` stretches the picture from 0 to 255 (the published layout, and the only one that the OASIS loader
            accepts); `volume` multiplies by 255, so that a grey means the same in all slices of a volume.

    Raises:
        ValueError: for an empty slice, values outside [0, 1] or an unknown rule.
    """
    check_choice("quantisation", rule, get_args(Quantisation))
    low, high = float(picture.min()), float(picture.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"values must lie in [0, 1], got {low:g} to {high:g}: normalise the volume first")
    if low == high:
        raise ValueError(f"the slice is empty: every value is {low:g}; choose another position")
    if rule == "image":
        picture = (picture - low) / (high - low)
    return np.asarray(np.rint(picture * 255).astype(np.uint8))
