"""The idx family: every pixel in its place; which set a file belongs to; what is refused."""

import gzip
import hashlib
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from geovae.data import DATASETS, idx
from geovae.data.builders import BUILDERS
from geovae.data.builders import idx as build_idx
from tests.data import originals
from tests.data.originals import noise, write_mnist

OWN = "ignore:.* is not the published file:UserWarning"
FASHION = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist


@pytest.mark.filterwarnings(OWN)
@pytest.mark.parametrize("name", idx.NAMES)
@pytest.mark.parametrize("compressed", [True, False])
def test_images_are_padded_and_in_order(tmp_path, root, compressed, name):
    arrays = write_mnist(tmp_path / "source", compressed)
    BUILDERS[name](tmp_path / "source", root, progress=False)
    splits = DATASETS[name](root=str(root), val_size=10)
    images = torch.cat([splits.train.images, splits.val.images])[:, 0].numpy()
    assert np.array_equal(images[:, 2:-2, 2:-2], arrays["train-images-idx3-ubyte"])
    assert images.sum() == arrays["train-images-idx3-ubyte"].sum(dtype=np.int64)
    assert np.array_equal(splits.test.images[:, 0, 2:-2, 2:-2], arrays["t10k-images-idx3-ubyte"])
    assert splits.val.labels.tolist() == [*range(10)]
    assert splits.source == str(root / name / f"{name}_32x32.npz")


@pytest.mark.slow
@pytest.mark.skipif(not FASHION.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist(tmp_path, root):
    report = BUILDERS["fashion_mnist"](FASHION, root, progress=False)
    assert [entry["published"] for entry in report["sources"].values()] == [True] * 4
    splits = DATASETS["fashion_mnist"](root=str(root))
    assert [len(part) for part in splits.parts().values()] == [50_000, 10_000, 10_000]
    labels = torch.cat([splits.train.labels, splits.val.labels])
    assert labels.bincount().tolist() == [6000] * 10
    whole = torch.cat([splits.train.images, splits.val.images])[:, :, 2:-2, 2:-2] / 255
    assert whole.mean().item() == pytest.approx(0.2860, abs=1e-4)  # mean and deviation that are published with the set
    assert whole.std().item() == pytest.approx(0.3530, abs=1e-4)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.* of fashion_mnist by its published .* of mnist"):
        BUILDERS["mnist"](FASHION, root, progress=False)


@pytest.mark.filterwarnings(OWN)
def test_the_other_spelling_of_the_names(tmp_path, root):
    write_mnist(tmp_path / "source", compressed=False)
    for path in (tmp_path / "source").iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert BUILDERS["mnist"](tmp_path / "source", root, progress=False)["complete"]


@pytest.mark.parametrize("other", ["train-images.idx3-ubyte", "train-images.idx3-ubyte.gz"])
def test_two_spellings_of_one_file_are_refused(tmp_path, root, other):
    write_mnist(tmp_path / "source")
    copy = (tmp_path / "source/train-images-idx3-ubyte.gz").read_bytes()
    (tmp_path / "source" / other).write_bytes(copy)
    with pytest.raises(ValueError, match=rf"holds both `train-images-idx3-ubyte.gz` and `{other}`: remove one"):
        BUILDERS["mnist"](tmp_path / "source", root, progress=False)
    assert not root.exists()


@pytest.mark.filterwarnings(OWN)
def test_a_file_beside_its_own_unpacked_content_is_no_second_file(tmp_path, root):
    """Torchvision leaves both."""
    write_mnist(tmp_path / "source")
    packed = tmp_path / "source/t10k-images-idx3-ubyte.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    assert BUILDERS["mnist"](tmp_path / "source", root, progress=False)["complete"]
    packed.with_suffix("").write_bytes(originals.idx(noise(7, 28, 28, seed=5)))
    with pytest.raises(ValueError, match="holds both `t10k-images-idx3-ubyte.gz` and `t10k-images-idx3-ubyte`"):
        BUILDERS["mnist"](tmp_path / "source", root, progress=False)


def publish(monkeypatch, name, folder, unpacked=True):
    """Let the files of `folder` be those published of `name`, whatever they hold."""
    table = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in folder.glob("*.gz")}
    if unpacked:
        table |= {p.stem: hashlib.md5(gzip.decompress(p.read_bytes())).hexdigest() for p in folder.glob("*.gz")}
    monkeypatch.setitem(build_idx.PUBLISHED, name, table)


@pytest.fixture
def two_sets(tmp_path, monkeypatch):
    """Files of mnist and of kmnist, known by their checksums; of kmnist only by those of the packed files."""
    write_mnist(tmp_path / "mnist")
    write_mnist(tmp_path / "kmnist", n=40)
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        n = (8,) if "labels" in name else (8, 28, 28)
        values = np.arange(8, dtype=np.uint8) if "labels" in name else noise(*n, seed=9)
        (tmp_path / f"kmnist/{name}.gz").write_bytes(gzip.compress(originals.idx(values)))
    publish(monkeypatch, "mnist", tmp_path / "mnist")
    publish(monkeypatch, "kmnist", tmp_path / "kmnist", unpacked=False)
    return tmp_path


@pytest.mark.parametrize("name", ["mnist", "kmnist"])
def test_the_report_says_that_files_are_those_published(two_sets, root, name):
    report = BUILDERS[name](two_sets / name, root, progress=False)
    assert [entry["published"] for entry in report["sources"].values()] == [True] * 4


def test_files_that_are_packed_anew_or_unpacked_are_still_known(two_sets, root):
    first, second, *_ = sorted((two_sets / "mnist").iterdir())
    first.write_bytes(gzip.compress(gzip.decompress(first.read_bytes()), 9))
    second.with_suffix("").write_bytes(gzip.decompress(second.read_bytes()))
    second.unlink()
    report = BUILDERS["mnist"](two_sets / "mnist", root, progress=False)
    assert [entry["published"] for entry in report["sources"].values()] == [True] * 4


def test_files_whose_unpacked_checksum_nobody_published_are_taken_beside_known_ones(two_sets, root):
    path = two_sets / "kmnist/t10k-images-idx3-ubyte.gz"
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    report = BUILDERS["kmnist"](two_sets / "kmnist", root, progress=False)
    assert sorted(entry["published"] for entry in report["sources"].values()) == [False, True, True, True]


def test_files_of_one_set_under_the_name_of_another_are_refused(two_sets, root):
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz` of kmnist by its published checksum.* of mnist"):
        BUILDERS["mnist"](two_sets / "kmnist", root, progress=False)
    assert not root.exists()


def test_images_beside_labels_of_another_set_are_refused(two_sets, root):
    name = "t10k-labels-idx1-ubyte.gz"
    (two_sets / "mnist" / name).write_bytes((two_sets / "kmnist" / name).read_bytes())
    with pytest.raises(ValueError, match=rf"`{name}` of kmnist by its published checksum, not .* of mnist"):
        BUILDERS["mnist"](two_sets / "mnist", root, progress=False)


def test_training_images_under_the_name_of_the_test_images_are_refused(two_sets, root):
    folder = two_sets / "mnist"
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes((folder / "train-images-idx3-ubyte.gz").read_bytes())
    with pytest.raises(ValueError, match="is `train-images-idx3-ubyte.* of mnist .* not `t10k-images-idx3-ubyte.gz`"):
        BUILDERS["mnist"](folder, root, progress=False)


def test_one_file_that_does_not_fit_is_refused_with_both_checksums(two_sets, root):
    path = two_sets / "mnist/t10k-labels-idx1-ubyte.gz"
    published = hashlib.md5(gzip.decompress(path.read_bytes())).hexdigest()
    content = originals.idx(np.zeros(7, np.uint8))
    path.write_bytes(gzip.compress(content))
    held = hashlib.md5(content).hexdigest()
    message = rf"t10k-labels.* md5 unpacked is {held}, published is {published}; .*train-images.* is as published"
    with pytest.raises(ValueError, match=message):
        BUILDERS["mnist"](two_sets / "mnist", root, progress=False)


def test_own_files_are_taken_with_a_warning(tmp_path, root):
    write_mnist(tmp_path / "source")
    with pytest.warns(UserWarning, match="train-images-idx3-ubyte.gz` is not the published file of mnist: it is taken"):
        report = BUILDERS["mnist"](tmp_path / "source", root, progress=False)
    assert [entry["published"] for entry in report["sources"].values()] == [False] * 4


def packed(data):
    """Gzip without the time of day: it would be part of the tests' names."""
    return gzip.compress(data, mtime=0)


@pytest.mark.filterwarnings(OWN)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packed(originals.idx(noise(30, 28, 28)))[:-900], r"is not a sound gzip file \(truncated download\?\)"),
        (b"<html>404</html>", "is not a sound gzip file"),
        (packed(b"PK\x03\x04" + bytes(99)), "is not an idx file of bytes: it begins with 50 4b 03 04"),
        (packed(b""), "is not an idx file of bytes: it begins with nothing"),
        (
            packed(originals.idx(noise(30, 28, 28))[:-5]),
            r"should hold 23520 values for shape \(30, 28, 28\), got 23515: truncated download",
        ),
        (packed(originals.idx(noise(30, 28, 28)) + b"x"), r"should hold 23520 values .* got more than 23520"),
        (packed(originals.idx(noise(30, 28, 28))[:7]), "ends within its header: truncated download"),
        (packed(originals.idx(noise(30, 32, 32))), r"must hold images of shape \(n, 28, 28\), got \(30, 32, 32\)"),
        (packed(originals.idx(np.zeros(30, np.uint8))), r"must hold images of shape \(n, 28, 28\), got \(30,\)"),
        (packed(originals.idx(noise(29, 28, 28))), "must hold one label for each of the 29 images"),
        (packed(struct.pack(">BBBB3I", 0, 0, 8, 3, 9**9, 28, 28)), r"announces 303737663376 values, shape \(387420489"),
    ],
)
def test_files_that_do_not_fit(tmp_path, root, content, message):
    write_mnist(tmp_path / "source")
    (tmp_path / "source/train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        BUILDERS["mnist"](tmp_path / "source", root, progress=False)
    assert not (root / "mnist/mnist_32x32.npz").exists()


def test_a_gzip_file_is_unpacked_no_further_than_its_header_says(tmp_path, root):
    write_mnist(tmp_path / "source")
    path = tmp_path / "source/train-images-idx3-ubyte.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(originals.idx(noise(30, 28, 28)))
        for _ in range(200):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(ValueError, match="got more than 23520"):
        BUILDERS["mnist"](tmp_path / "source", root, progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_files_that_cannot_be_opened_are_no_damaged_downloads(tmp_path, root, monkeypatch):
    write_mnist(tmp_path / "source")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("gzip.open", refuse)
    with pytest.raises(PermissionError, match="train-images"):
        BUILDERS["mnist"](tmp_path / "source", root, progress=False)
