"""MNIST and its relatives, padded to 32x32: `<name>/<name>_32x32.npz` and, if they exist, PNG test images beside it."""

from functools import partial

from geovae.data.dataset import DataSet
from geovae.data.held_out import make_loader, read_npz

SHAPE = (1, 32, 32)
NAMES = ("mnist", "fashion_mnist", "kmnist")
ORIGINALS = "the four idx files (.gz or not)"
READ = partial(read_npz, shape=SHAPE)
EXTRACTORS = {"mnist": "mnist-net-v1", "fashion_mnist": "fashion-mnist-net-v1"}
DATASETS = {
    name: DataSet(
        make_loader(name, f"{name}_32x32.npz", SHAPE, ORIGINALS, READ), SHAPE, extractor=EXTRACTORS.get(name, "trained")
    )
    for name in NAMES
}
