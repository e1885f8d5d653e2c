"""MNIST from idx files: every pixel in its place, and what is refused."""

import gzip

import numpy as np
import pytest
import torch

from geovae.data import DATASETS
from geovae.data.builders import mnist as build_mnist
from tests.data.originals import idx, noise, write_mnist


@pytest.mark.parametrize("compressed", [True, False])
def test_mnist_is_padded_and_in_order(tmp_path, root, compressed):
    arrays = write_mnist(tmp_path / "source", compressed)
    build_mnist.build(tmp_path / "source", root, progress=False)
    splits = DATASETS["mnist"](root=str(root), val_size=10)
    images = torch.cat([splits.train.images, splits.val.images])[:, 0].numpy()
    assert np.array_equal(images[:, 2:-2, 2:-2], arrays["train-images-idx3-ubyte"])
    assert images.sum() == arrays["train-images-idx3-ubyte"].sum(dtype=np.int64)
    assert np.array_equal(splits.test.images[:, 0, 2:-2, 2:-2], arrays["t10k-images-idx3-ubyte"])
    assert splits.val.labels.tolist() == [*range(10)]


def test_the_other_spelling_of_the_names(tmp_path, root):
    write_mnist(tmp_path / "source", compressed=False)
    for path in (tmp_path / "source").iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert build_mnist.build(tmp_path / "source", root, progress=False)["complete"]


def packed(data):
    """Gzip without the time of day: it would be part of the tests' names."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packed(idx(noise(30, 28, 28)))[:-900], r"is not a sound gzip file \(truncated download\?\)"),
        (b"<html>404</html>", "is not a sound gzip file"),
        (packed(b"PK\x03\x04" + bytes(99)), "is not an idx file of bytes: it begins with 50 4b 03 04"),
        (packed(b""), "is not an idx file of bytes: it begins with nothing"),
        (packed(idx(noise(30, 28, 28))[:-5]), r"should hold 23520 values for shape \(30, 28, 28\), got 23515"),
        (packed(idx(noise(30, 28, 28))[:7]), "ends within its header: truncated download"),
        (packed(idx(noise(30, 32, 32))), r"must hold images of shape \(n, 28, 28\), got \(30, 32, 32\)"),
        (packed(idx(np.zeros(30, np.uint8))), r"must hold images of shape \(n, 28, 28\), got \(30,\)"),
        (packed(idx(noise(29, 28, 28))), "must hold one label for each of the 29 images"),
    ],
)
def test_mnist_files_that_do_not_fit(tmp_path, root, content, message):
    write_mnist(tmp_path / "source")
    (tmp_path / "source/train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        build_mnist.build(tmp_path / "source", root, progress=False)
    assert not (root / "mnist/mnist_32x32.npz").exists()
