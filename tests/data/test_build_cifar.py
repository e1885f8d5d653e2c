"""CIFAR-10 from each of its versions, and pickles that are damaged, foreign or malicious."""

import io
import pickle
import tarfile
import warnings

import numpy as np
import pytest
import torch

from geovae.data import DATASETS
from geovae.data.builders import cifar as build_cifar
from tests.data.originals import Trap, cifar_arrays, noise, python2_pickle, write_cifar, write_cifar_archive

pytestmark = pytest.mark.filterwarnings("ignore:.* is not the published file:UserWarning")


def archive(folder, path):
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(folder, folder.name)
    return path


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_cifar_from_every_version(tmp_path, root, binary, packed):
    folder = tmp_path / "source" / ("cifar-10-batches-bin" if binary else "cifar-10-batches-py")
    write_cifar(folder, binary)
    source = archive(folder, tmp_path / "cifar.tar.gz") if packed else folder.parent
    build_cifar.build(source, root, progress=False)
    splits = DATASETS["cifar"](root=str(root), val_size=10)
    arrays = list(cifar_arrays().values())
    pixels = np.concatenate([p for p, _ in arrays[:5]]).reshape(-1, 3, 32, 32)
    assert np.array_equal(torch.cat([splits.train.images, splits.val.images]), pixels)
    labels = [v for _, part in arrays[:5] for v in part]
    assert torch.cat([splits.train.labels, splits.val.labels]).tolist() == labels
    assert np.array_equal(splits.test.images, arrays[5][0].reshape(-1, 3, 32, 32))


def test_the_test_writes_what_python_2_wrote():
    """The bytes are a pickle that Python reads as documented for CIFAR-10, arrays and all."""
    value = {b"labels": [1, 2], b"data": noise(2, 3072)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of NumPy warn of the way Python 2 wrote types
        read = pickle.loads(python2_pickle(value), encoding="bytes")  # noqa: S301
    assert read[b"labels"] == [1, 2]
    assert np.array_equal(read[b"data"], value[b"data"])


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_batch_is_refused_and_not_run(tmp_path, root, protocol):
    write_cifar(tmp_path / "source", binary=False)
    trap = pickle.dumps({"data": Trap(tmp_path / "executed")}, protocol)
    (tmp_path / "source/data_batch_3").write_bytes(trap)
    with pytest.raises(
        ValueError, match=r"batch `data_batch_3` of .* it asks for (posix|nt).system, which is not admitted"
    ):
        build_cifar.build(tmp_path / "source", root, progress=False)
    assert not (tmp_path / "executed").exists()
    assert not (root / "cifar").exists()


@pytest.mark.parametrize("name", ["builtins\neval", "numpy\nload", "numpy.core.multiarray\nfromfile", "os\nsystem"])
def test_names_that_are_not_admitted(name):
    with pytest.raises(ValueError, match=f"asks for {name.replace(chr(10), '.')}, which is not admitted"):
        build_cifar.read_batch(b"\x80\x02c" + name.encode() + b"\n(U\x01xtR.", "a batch", binary=False)


def test_uninitialised_memory_is_no_array():
    """numpy.ndarray((3, 3072), "u1") would show what the process held there before."""
    call = b"cnumpy\nndarray\n(K\x03M\x00\x0c\x86U\x02u1tR"
    with pytest.raises(ValueError, match="a batch cannot be read"):
        build_cifar.read_batch(
            b"\x80\x02}(U\x04data" + call + b"U\x06labels](K\x00K\x01K\x02eu.", "a batch", binary=False
        )


PIXELS = noise(3, 3072)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({b"data": PIXELS, b"fine_labels": [1, 2, 3]}, "is not a CIFAR-10 batch: it looks like CIFAR-100"),
        ({b"data": PIXELS}, "is not a CIFAR-10 batch: it has no `labels`"),
        ({b"label_names": [b"cat"]}, "is not a CIFAR-10 batch: it has no `data`"),
        ([1, 2], "is not a CIFAR-10 batch: it has no `data`"),
        ({b"data": PIXELS, b"labels": [1, 2]}, r"must hold one label for each of the 3 images, got shape \(2,\)"),
        ({b"data": PIXELS, b"labels": [1, 2, 10]}, "must hold labels from 0 to 9, got 1 to 10"),
        ({b"data": PIXELS[:, :100], b"labels": [1, 2, 3]}, r"must hold uint8 images \(n, 3072\), got uint8 \(3, 100\)"),
        ({b"data": PIXELS.astype("f4"), b"labels": [1, 2, 3]}, "an array of b'f4', which is not admitted"),
        ({b"data": [1, 2, 3], b"labels": [1, 2, 3]}, r"must hold uint8 images \(n, 3072\), got int64 \(3,\)"),
    ],
)
def test_batches_that_do_not_fit(batch, message):
    with pytest.raises(ValueError, match=message):
        build_cifar.read_batch(python2_pickle(batch), "a batch", binary=False)


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, -1])
def test_a_truncated_batch(keep):
    data = python2_pickle({b"data": PIXELS, b"labels": [1, 2, 3]})[:keep]
    with pytest.raises(ValueError, match=r"a batch cannot be read \(truncated"):
        build_cifar.read_batch(data, "a batch", binary=False)


@pytest.mark.parametrize("n", [0, 3073 * 2 - 1, 3074 * 2])
def test_a_binary_batch_of_the_wrong_length(n):
    with pytest.raises(ValueError, match=f"has {n} bytes, not a multiple of 3073: truncated, or not CIFAR-10"):
        build_cifar.read_batch(bytes(n), "a batch", binary=True)


def test_archives_that_do_not_fit(tmp_path, root):
    write_cifar(tmp_path / "cifar-10-batches-py", binary=False)
    path = archive(tmp_path / "cifar-10-batches-py", tmp_path / "a.tar.gz")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="is not a sound tar archive"):
        build_cifar.build(path, root, progress=False)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(ValueError, match="is not a sound tar archive"):
        build_cifar.build(path, root, progress=False)
    (tmp_path / "cifar-10-batches-py/test_batch").unlink()
    archive(tmp_path / "cifar-10-batches-py", path)
    with pytest.raises(ValueError, match="holds no test_batch: wrong archive"):
        build_cifar.build(path, root, progress=False)
    with pytest.raises(FileNotFoundError, match="test_batch` does not exist, others do"):
        build_cifar.build(tmp_path, root, progress=False)


def test_archives_of_links_and_of_huge_batches(tmp_path, root, monkeypatch):
    write_cifar(tmp_path / "cifar-10-batches-py", binary=False)
    path = archive(tmp_path / "cifar-10-batches-py", tmp_path / "a.tar.gz")
    monkeypatch.setattr(build_cifar, "LARGEST", 9999)
    with pytest.raises(ValueError, match=r"`data_batch_[1-5]` of .* has [0-9]{5} bytes; a batch has 31 million"):
        build_cifar.build(path, root, progress=False)
    for batch in (tmp_path / "cifar-10-batches-py").iterdir():
        batch.unlink()
        batch.symlink_to("/nowhere")
    archive(tmp_path / "cifar-10-batches-py", path)
    with pytest.raises(ValueError, match="holds no data_batch_1, .* wrong archive"):
        build_cifar.build(path, root, progress=False)


def test_an_archive_is_found_in_its_folder(tmp_path, root):
    write_cifar_archive(tmp_path / "source")
    assert build_cifar.build(tmp_path / "source", root, progress=False)["complete"]


def test_nothing_of_an_archive_is_written_outside(tmp_path, root):
    write_cifar(tmp_path / "source", binary=False)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for path in (tmp_path / "source").iterdir():
            tar.add(path, f"../../{path.name}")
        info = tarfile.TarInfo("../escaped")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    build_cifar.build(tmp_path / "a.tar.gz", root, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "data_folders", "source"]
