"""Data sets: `DATASETS[name](root=..., seed=...)` gives `Splits` of uint8 images; one loader a file.

`IMAGE_SHAPES[name]` is the (c, h, w) known before anything is read, None where it depends on the files.
"""

from collections.abc import Callable

from geovae.data import digits, mnist
from geovae.data.splits import Split, Splits

__all__ = ["DATASETS", "IMAGE_SHAPES", "Split", "Splits"]

DATASETS: dict[str, Callable[..., Splits]] = {
    "digits": digits.load,
    "mnist": mnist.load,
}

IMAGE_SHAPES: dict[str, tuple[int, int, int] | None] = {
    "digits": digits.SHAPE,
    "mnist": mnist.SHAPE,
}
