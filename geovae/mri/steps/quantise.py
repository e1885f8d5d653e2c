"""Pictures as uint8: each from 0 to 255 as in the paper, or consistent over the volume."""

from typing import Literal

import numpy as np

Quantisation = Literal["image", "volume"]


def quantise(picture: np.ndarray, rule: Quantisation = "image") -> np.ndarray:
    """Return a picture (rows, columns) of values in [0, 1] as uint8, rounded to the nearest level.

    Args:
        picture: of a normalised volume.
        rule: `image` stretches the picture from 0 to 255 (the published layout, the only one that the OASIS loader
            takes); `volume` multiplies by 255, so that a grey means the same in all slices of a volume.

    Raises:
        ValueError: for an empty slice, values outside [0, 1] or an unknown rule.
    """
    low, high = float(picture.min()), float(picture.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"values must lie in [0, 1], got {low:g} to {high:g}: normalise the volume first")
    if low == high:
        raise ValueError(f"the slice is empty: every value is {low:g}; choose another position")
    if rule == "image":
        picture = (picture - low) / (high - low)
    elif rule != "volume":
        raise ValueError(f"`quantisation` must be image or volume, got {rule!r}")
    return np.rint(picture * 255).astype(np.uint8)
