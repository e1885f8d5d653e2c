"""Data sets: `DATASETS[name](root=..., seed=...)` gives `Splits` of uint8 images; one loader a file.

`IMAGE_SHAPES[name]` is the (c, h, w) known before anything is read, None where it depends on the files.
"""

from collections.abc import Callable

from geovae.data import celeba, cifar, digits, folder, mnist, oasis, oasis_volumes, patches, rings_discs, svhn
from geovae.data.splits import Split, Splits

__all__ = ["DATASETS", "IMAGE_SHAPES", "Split", "Splits"]

DATASETS: dict[str, Callable[..., Splits]] = {
    "digits": digits.load,
    "mnist": mnist.load,
    "cifar": cifar.load,
    "celeba": celeba.load,
    "svhn": svhn.load,
    "oasis": oasis.load,
    "oasis_volumes": oasis_volumes.load,
    "patches": patches.load,
    "rings_discs": rings_discs.load,
    "folder": folder.load,
}

IMAGE_SHAPES: dict[str, tuple[int, int, int] | None] = {
    "digits": digits.SHAPE,
    "mnist": mnist.SHAPE,
    "cifar": cifar.SHAPE,
    "celeba": celeba.SHAPE,
    "svhn": svhn.SHAPE,
    "oasis": oasis.SHAPE,
    "oasis_volumes": oasis_volumes.SHAPE,
    "patches": patches.SHAPE,
    "rings_discs": rings_discs.SHAPE,
    "folder": None,
}
