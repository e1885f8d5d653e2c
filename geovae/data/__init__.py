"""Data sets: `DATASETS[name](root=..., seed=...)` gives `Splits` of uint8 images; one loader a file.

`DATASETS[name].image_shape` is the (c, h, w) known before anything is read, None where it depends on the files.
"""

from importlib import import_module

from geovae.data import idx
from geovae.data.dataset import DataSet, MissingData, Split, Splits

__all__ = ["DATASETS", "DataSet", "MissingData", "Split", "Splits"]

# The line that adds a data set: the name of its module, which defines `DATASET`. Imported by name, so that it is one.
NAMES = (
    "digits",
    "mnist_5k",
    "cifar",
    "celeba",
    "svhn",
    "oasis",
    "oasis_volumes",
    "patches",
    "rings_discs",
    "folder",
)

DATASETS: dict[str, DataSet] = {name: import_module(f"{__name__}.{name}").DATASET for name in NAMES} | idx.DATASETS
