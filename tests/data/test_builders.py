"""Builders turn small files in the original formats into what the loaders read, whole or not at all."""

import gzip
import hashlib
import inspect
import io
import json
import os
import pickle
import struct
import tarfile
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from geovae.data import DATASETS
from geovae.data.build import BUILDERS
from geovae.data.build import cifar as build_cifar
from geovae.data.build import mnist as build_mnist


def noise(*shape, seed=0):
    """Different bytes everywhere, both ends of the range included."""
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    values.reshape(shape[0], -1)[:, :2] = 0, 255
    return values


# --- originals, written as they are distributed


def idx(values: np.ndarray) -> bytes:
    """An idx file: magic number with type and rank, big-endian sizes, bytes."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_mnist(folder, compressed=True, n=30):
    folder.mkdir()
    arrays = {
        "train-images-idx3-ubyte": noise(n, 28, 28),
        "train-labels-idx1-ubyte": (np.arange(n) % 10).astype(np.uint8),
        "t10k-images-idx3-ubyte": noise(7, 28, 28, seed=1),
        "t10k-labels-idx1-ubyte": np.arange(7, dtype=np.uint8),
    }
    for name, values in arrays.items():
        data = idx(values)
        path = folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(data, 1) if compressed else data)
    return arrays


def python2_pickle(value) -> bytes:
    """What Python 2 wrote for a CIFAR batch: protocol 2, text as byte strings, arrays through `numpy.core`."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value) -> bytes:
    if isinstance(value, bytes):
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(k) + _opcodes(v) for k, v in value.items()) + b"u"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    code = value.dtype.str[1:].encode()
    dtype = (
        b"cnumpy\ndtype\n(" + _opcodes(code) + b"K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    shape = b"(" + b"".join(_opcodes(n) for n in value.shape) + b"t"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + _opcodes(value.tobytes()) + b"tb"


def cifar_arrays(n=6):
    """Pixels (n, 3072), channel by channel, and labels of the six batches."""
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    return {
        name: (noise(n, 3072, seed=i), [int(v) for v in np.random.default_rng(i).integers(0, 10, n)])
        for i, name in enumerate(names)
    }


def write_cifar(folder, binary):
    folder.mkdir(parents=True)
    for name, (pixels, labels) in cifar_arrays().items():
        if binary:
            rows = np.column_stack([np.array(labels, np.uint8), pixels])
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
            continue
        batch = {
            b"batch_label": b"training batch 1 of 5",
            b"labels": labels,
            b"data": pixels,
            b"filenames": [f"picture_{i}.png".encode() for i in range(len(labels))],
        }
        (folder / name).write_bytes(python2_pickle(batch))


def write_svhn(folder):
    from scipy.io import savemat

    folder.mkdir(parents=True)
    arrays = {"train": noise(30, 32, 32, 3), "test": noise(5, 32, 32, 3, seed=1)}
    for part, x in arrays.items():
        labels = (np.arange(len(x)) % 10 + 1).astype(np.uint8)[:, None]
        savemat(folder / f"{part}_32x32.mat", {"X": x.transpose(1, 2, 3, 0), "y": labels}, do_compression=True)
    return arrays


def write_faces(folder, n=12):
    """`n` aligned JPEG files and their partition: half for training, a quarter each for validation and test."""
    (folder / "img_align_celeba").mkdir(parents=True)
    lines = []
    for i in range(n):
        ramp = np.linspace(0, 255, 178)[None, :, None] * np.ones((218, 1, 3)) * [1, 0.5, i / n]
        Image.fromarray(ramp.astype(np.uint8)).save(folder / f"img_align_celeba/{i + 1:06d}.jpg", quality=95)
        lines.append(f"{i + 1:06d}.jpg {[0, 0, 1, 2][i % 4]}\n")
    (folder / "list_eval_partition.txt").write_text("".join(lines))


def write_folder(folder, n=20):
    for c in ("a", "b"):
        (folder / c).mkdir(parents=True)
        for i, image in enumerate(noise(n, 9, 7, 3, seed=ord(c))):
            Image.fromarray(image).save(folder / c / f"{i:02d}.png")


ORIGINALS = {
    "mnist": write_mnist,
    "cifar": lambda folder: write_cifar(folder, binary=False),
    "svhn": write_svhn,
    "celeba": write_faces,
    "folder": write_folder,
}
LOAD = {
    "mnist": {"val_size": 10},
    "cifar": {"val_size": 10},
    "svhn": {"val_size": 10},
    "celeba": {},
    "folder": {"path": "folder/folder.npz"},
}
every_builder = pytest.mark.parametrize("name", BUILDERS)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data_folders"


def snapshot(folder):
    """Every file below, by name, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- the contract of every builder


@every_builder
def test_what_is_built_is_loaded(name, tmp_path, root):
    ORIGINALS[name](tmp_path / "source")
    report = BUILDERS[name](tmp_path / "source", root, progress=False)
    splits = DATASETS[name](root=str(root), **LOAD[name])
    assert splits.test is not None
    assert report["complete"]
    assert not list(root.rglob("*.partial"))


@every_builder
def test_the_report_holds_true_checksums(name, tmp_path, root):
    ORIGINALS[name](tmp_path / "source")
    report = BUILDERS[name](tmp_path / "source", root, progress=False)
    assert json.loads((root / name / "build.json").read_text()) == report
    noted = report["sources"] | {str(root / name / k): v for k, v in report["outputs"].items() if "bytes" in v}
    assert len(noted) > 1
    for path, entry in noted.items():
        with open(path, "rb") as file:
            assert {k: entry[k] for k in ("bytes", "sha256")} == {
                "bytes": os.path.getsize(path),
                "sha256": hashlib.sha256(file.read()).hexdigest(),
            }


def test_the_report_says_whether_sources_are_those_published(tmp_path, root, monkeypatch):
    write_mnist(tmp_path / "source")
    name = "t10k-labels-idx1-ubyte.gz"
    md5 = hashlib.md5((tmp_path / "source" / name).read_bytes()).hexdigest()
    monkeypatch.setitem(build_mnist.PUBLISHED, name, md5)
    report = build_mnist.build(tmp_path / "source", root, progress=False)
    assert {os.path.basename(path) for path, entry in report["sources"].items() if entry["published"]} == {name}


@every_builder
def test_building_again_changes_nothing_and_elsewhere_gives_the_same_bytes(name, tmp_path, root):
    ORIGINALS[name](tmp_path / "source")
    BUILDERS[name](tmp_path / "source", root, progress=False)
    before = snapshot(root)
    times = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    BUILDERS[name](tmp_path / "source", root, progress=False)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == times
    BUILDERS[name](tmp_path / "source", tmp_path / "elsewhere", progress=False)
    after = snapshot(tmp_path / "elsewhere")
    assert before.keys() == after.keys()
    assert all(before[k] == after[k] for k in before if not k.endswith("build.json"))


@every_builder
def test_a_damaged_output_is_made_again(name, tmp_path, root):
    ORIGINALS[name](tmp_path / "source")
    BUILDERS[name](tmp_path / "source", root, progress=False)
    before = snapshot(root)
    victims = [next(p for p in root.rglob("*") if p.suffix in (".npz", ".pt", ".mat")), next(root.rglob("*.png"))]
    victims[0].write_bytes(b"damaged")
    victims[1].unlink()
    BUILDERS[name](tmp_path / "source", root, progress=False)
    assert snapshot(root) == before


@every_builder
def test_outputs_of_another_build_are_replaced_only_when_asked(name, tmp_path, root):
    ORIGINALS[name](tmp_path / "source")
    target = next(iter(BUILDERS[name](tmp_path / "source", tmp_path / "elsewhere", progress=False)["outputs"]))
    mine = root / name / target
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="exists and comes from other sources or options: pass overwrite=True"):
        BUILDERS[name](tmp_path / "source", root, progress=False)
    assert mine.read_bytes() == b"mine"
    BUILDERS[name](tmp_path / "source", root, progress=False, overwrite=True)
    assert DATASETS[name](root=str(root), **LOAD[name])


@every_builder
def test_a_missing_source_says_what_is_due(name, tmp_path, root):
    (tmp_path / "empty").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match=r"`source` must be|holds no images"):
        BUILDERS[name](tmp_path / "empty", root, progress=False)
    with pytest.raises(FileNotFoundError, match="`source` must be"):
        BUILDERS[name](tmp_path / "nowhere", root, progress=False)
    assert not root.exists()


@every_builder
def test_an_interrupted_build_continues(name, tmp_path, root, monkeypatch):
    ORIGINALS[name](tmp_path / "source")
    whole = BUILDERS[name](tmp_path / "source", tmp_path / "elsewhere", progress=False)
    written = []
    real = Image.Image.save

    def save(image, path, **options):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        real(image, path, **options)

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(KeyboardInterrupt):
        BUILDERS[name](tmp_path / "source", root, progress=False)
    assert not (root / name / "test_folder").exists()
    assert not json.loads((root / name / "build.json").read_text())["complete"]
    again = []
    monkeypatch.setattr(Image.Image, "save", lambda *a, **k: (again.append(a[1]), real(*a, **k)))
    report = BUILDERS[name](tmp_path / "source", root, progress=False)
    assert report["outputs"] == whole["outputs"]
    tests = report["outputs"]["test/test" if name == "celeba" else "test_folder"]["files"]
    assert len(again) == tests - len(written)


@every_builder
def test_the_signature_is_documented(name):
    for option in inspect.signature(BUILDERS[name]).parameters:
        assert f"        {option}: " in BUILDERS[name].__doc__


def test_a_bar_is_shown_on_the_error_stream_only_when_asked(tmp_path, root, capsys):
    write_mnist(tmp_path / "source")
    build_mnist.build(tmp_path / "source", root)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "7/7" in shown.err
    build_mnist.build(tmp_path / "source", tmp_path / "elsewhere", progress=False)
    assert capsys.readouterr() == ("", "")


# --- mnist


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(idx(noise(30, 28, 28)))[:-900], r"is not a sound gzip file \(truncated download\?\)"),
        (b"<html>404</html>", "is not a sound gzip file"),
        (gzip.compress(b"PK\x03\x04" + bytes(99)), "is not an idx file of bytes: it begins with 50 4b 03 04"),
        (gzip.compress(b""), "is not an idx file of bytes: it begins with nothing"),
        (gzip.compress(idx(noise(30, 28, 28))[:-5]), r"should hold 23520 values for shape \(30, 28, 28\), got 23515"),
        (gzip.compress(idx(noise(30, 28, 28))[:7]), "ends within its header: truncated download"),
        (gzip.compress(idx(noise(30, 32, 32))), r"must hold images of shape \(n, 28, 28\), got \(30, 32, 32\)"),
        (gzip.compress(idx(np.zeros(30, np.uint8))), r"must hold images of shape \(n, 28, 28\), got \(30,\)"),
        (gzip.compress(idx(noise(29, 28, 28))), "must hold one label for each of the 29 images"),
    ],
)
def test_mnist_files_that_do_not_fit(tmp_path, root, content, message):
    write_mnist(tmp_path / "source")
    (tmp_path / "source/train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        build_mnist.build(tmp_path / "source", root, progress=False)
    assert not (root / "mnist/mnist_32x32.npz").exists()


# --- cifar


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


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


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


# --- svhn


def test_svhn_test_images_and_a_source_in_place(tmp_path, root):
    arrays = write_svhn(root / "svhn")
    before = (root / "svhn/train_32x32.mat").read_bytes()
    BUILDERS["svhn"](root / "svhn", root, progress=False)
    assert (root / "svhn/train_32x32.mat").read_bytes() == before
    splits = DATASETS["svhn"](root=str(root), val_size=10)
    assert np.array_equal(splits.test.images.permute(0, 2, 3, 1), arrays["test"])
    assert BUILDERS["svhn"](root / "svhn", root, progress=False)["complete"]


def test_a_full_numbers_archive_is_not_svhn_format_2(tmp_path, root):
    write_svhn(tmp_path / "source")
    from scipy.io import savemat

    savemat(tmp_path / "source/test_32x32.mat", {"digitStruct": np.zeros(3)})
    with pytest.raises(ValueError, match=r"test_32x32.mat` has no array `X`; it holds: digitStruct"):
        BUILDERS["svhn"](tmp_path / "source", root, progress=False)
    assert not (root / "svhn").exists()


# --- celeba


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_faces_are_cropped_resized_and_sorted_into_parts(tmp_path, root, dtype):
    write_faces(tmp_path / "source")
    BUILDERS["celeba"](tmp_path / "source", root, dtype=dtype, progress=False)
    stored = torch.load(root / "celeba/train_data.pt", weights_only=True)
    assert stored.dtype == getattr(torch, dtype)
    assert stored.shape == (6, 3, 64, 64)
    splits = DATASETS["celeba"](root=str(root))
    assert [len(p) for p in splits.parts().values()] == [6, 3, 3]
    # the ramp from 0 to 255 over 178 columns, between columns 19 and 159, in 64 steps
    centres = 19 + (np.arange(64) + 0.5) * 140 / 64 - 0.5
    assert np.abs(splits.train.images[0, 0, 32].numpy() - centres * 255 / 177).max() < 3
    blues = [int(p.images[i, 2, 32, 60]) for p in splits.parts().values() for i in range(3)]
    order = [0, 1, 4, 2, 6, 10, 3, 7, 11]  # rows of the partition file in train, val, test
    assert np.abs(np.array(blues) - centres[60] * 255 / 177 * np.array(order) / 12).max() < 4
    assert sorted(p.name for p in (root / "celeba/test/test").iterdir()) == ["000004.png", "000008.png", "000012.png"]


def test_both_types_load_as_the_same_images(tmp_path):
    write_faces(tmp_path / "source")
    digests = []
    for dtype in ("float32", "uint8"):
        BUILDERS["celeba"](tmp_path / "source", tmp_path / dtype, dtype=dtype, progress=False)
        digests.append(DATASETS["celeba"](root=str(tmp_path / dtype)).digest)
    assert digests[0] == digests[1]


def damage(path, how):
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:900])
    elif how == "other size":
        Image.new("RGB", (178, 200)).save(path)
    elif how == "gray":
        Image.new("L", (178, 218)).save(path)


FAULTS = {
    "missing": "cannot be decoded",
    "truncated": "cannot be decoded",
    "other size": "is 200x178x3, expected 218x178x3",
    "gray": "is 218x178, expected 218x178x3",
}


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize(
    ("file", "left"), [("000001.jpg", [5, 3, 3]), ("000003.jpg", [6, 2, 3]), ("000004.jpg", [6, 3, 2])]
)
def test_a_bad_face_fails_by_name_or_is_skipped_and_reported(tmp_path, root, how, file, left):
    write_faces(tmp_path / "source")
    damage(tmp_path / "source/img_align_celeba" / file, how)
    stem = file.removesuffix(".jpg")
    with pytest.raises(ValueError, match=f"1 of [36] images in .* cannot be used: {stem}.*: {FAULTS[how]}"):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False)
    with pytest.warns(UserWarning, match=f"1 of [36] images .* {stem}"):
        report = BUILDERS["celeba"](tmp_path / "source", root, progress=False, on_error="skip")
    assert [text[:6] for text in report["skipped"]] == [stem]
    assert [len(p) for p in DATASETS["celeba"](root=str(root)).parts().values()] == left


def test_decoding_continues_after_an_interruption(tmp_path, root, monkeypatch):
    write_faces(tmp_path / "source")
    whole = BUILDERS["celeba"](tmp_path / "source", tmp_path / "elsewhere", progress=False)
    real = BUILDERS["celeba"].__globals__["decode_image"]
    decoded = []

    def decode(path):
        if len(decoded) >= 5:
            raise KeyboardInterrupt
        decoded.append(path.name)
        return real(path)

    monkeypatch.setattr("geovae.data.build.celeba.BLOCK", 2)
    monkeypatch.setattr("geovae.data.build.celeba.decode_image", decode)
    with pytest.raises(KeyboardInterrupt):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False)
    assert sorted(p.name for p in (root / "celeba").iterdir()) == [
        "build.json",
        "train_done.partial",
        "train_images.partial",
    ]
    monkeypatch.setattr("geovae.data.build.celeba.decode_image", real)
    assert BUILDERS["celeba"](tmp_path / "source", root, progress=False)["outputs"] == whole["outputs"]


@pytest.mark.parametrize("name", ["..", "a/b", "", "/tmp/x"])
def test_the_name_of_a_new_data_set_stays_below_the_root(tmp_path, root, name):
    with pytest.raises(ValueError, match="`name` must be the name of a folder below `root`"):
        BUILDERS["folder"](tmp_path, root, name=name, progress=False)


def test_after_a_repair_a_build_that_left_images_out_can_be_replaced(tmp_path, root):
    write_faces(tmp_path / "source")
    path = tmp_path / "source/img_align_celeba/000001.jpg"
    sound = path.read_bytes()
    damage(path, "truncated")
    with pytest.warns(UserWarning, match="1 of 6 images"):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False, on_error="skip")
    path.write_bytes(sound)
    assert BUILDERS["celeba"](tmp_path / "source", root, progress=False)["skipped"]
    assert not BUILDERS["celeba"](tmp_path / "source", root, progress=False, overwrite=True)["skipped"]
    assert len(DATASETS["celeba"](root=str(root)).train) == 6


def test_after_a_repair_only_what_is_missing_is_decoded(tmp_path, root, monkeypatch):
    write_faces(tmp_path / "source")
    path = tmp_path / "source/img_align_celeba/000006.jpg"
    sound = path.read_bytes()
    damage(path, "truncated")
    with pytest.raises(ValueError, match=r"000006.jpg"):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False)
    path.write_bytes(sound)
    decoded = []
    real = BUILDERS["celeba"].__globals__["decode_image"]
    monkeypatch.setattr("geovae.data.build.celeba.decode_image", lambda p: (decoded.append(p.name), real(p))[1])
    BUILDERS["celeba"](tmp_path / "source", root, progress=False)
    assert sorted(decoded) == [
        "000003.jpg",
        "000004.jpg",
        "000006.jpg",
        "000007.jpg",
        "000008.jpg",
        "000011.jpg",
        "000012.jpg",
    ]
    assert len(DATASETS["celeba"](root=str(root)).train) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("000001.jpg 0\n000002.jpg 3\n", "line 2 of .* must be `<name>.jpg <0, 1 or 2>`, got '000002.jpg 3'"),
        ("000001.jpg\n", "line 1 of .* must be"),
        ("../../x.jpg 0\n", "line 1 of .* must be"),
        ("000001.jpg 0\n000002.jpg 1\n", "names no test images: truncated download"),
        ("", "names no train images"),
    ],
)
def test_a_partition_file_that_does_not_fit(tmp_path, root, text, message):
    write_faces(tmp_path / "source", 4)
    (tmp_path / "source/list_eval_partition.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False)
    assert not root.exists()


# --- folder


def test_a_folder_with_bad_images(tmp_path, root):
    write_folder(tmp_path / "source")
    (tmp_path / "source/a/03.png").write_bytes(b"<html>")
    Image.new("L", (7, 9)).save(tmp_path / "source/b/04.png")
    with pytest.raises(ValueError, match=r"2 of 40 images .*03.png: cannot.*04.png: is gray.*`size` and `channels`"):
        BUILDERS["folder"](tmp_path / "source", root, progress=False)
    with pytest.warns(UserWarning, match="2 of 40 images"):
        report = BUILDERS["folder"](tmp_path / "source", root, progress=False, on_error="skip", name="pets")
    assert [os.path.basename(path) for path in report["skipped"]] == ["03.png", "04.png"]
    splits = DATASETS["folder"](root=str(root), path="pets/pets.npz")
    assert sum(len(p) for p in splits.parts().values()) == 38
    assert splits.train.labels.unique().tolist() == [0, 1]


def test_a_folder_can_be_resized_into_gray(tmp_path, root):
    write_folder(tmp_path / "source")
    BUILDERS["folder"](tmp_path / "source", root, size=16, channels=1, progress=False)
    splits = DATASETS["folder"](root=str(root), path="folder/folder.npz")
    assert splits.image_shape == (1, 16, 16)
    assert len(splits.test) == round(0.16 * 40)
