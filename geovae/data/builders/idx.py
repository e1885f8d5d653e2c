"""MNIST, Fashion-MNIST and Kuzushiji-MNIST from their four idx files (.gz or not): padded to 32x32, test images as PNG.

An idx file: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
32-bit integer, then the values. All sets use the same names for their files: published checksums tell them apart.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from geovae.data.builders.job import Job
from geovae.data.builders.published import make_builder, md5_of
from geovae.data.dataset import require_file
from geovae.data.download import list_originals
from geovae.data.idx import NAMES
from geovae.data.npz import check_labels

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
LARGEST = 1 << 30  # bytes that a file may unpack to: the largest of this format, EMNIST's, has 0.6 GB
ORIGINALS = {
    "mnist": list_originals(
        "http://yann.lecun.com/exdb/mnist/",
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
        ["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"],
    ),
    "fashion_mnist": list_originals(
        "https://github.com/zalandoresearch/fashion-mnist",
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
        ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"],
    ),
    "kmnist": list_originals(
        "http://codh.rois.ac.jp/kmnist/",
        {
            "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
            "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
            "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
            "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
        },
        ["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"],
    ),
}
UNPACKED = {  # md5; nobody published those of kmnist
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
PUBLISHED = {name: ORIGINALS[name].md5() | UNPACKED.get(name, {}) for name in NAMES}


def read_bytes(path: Path) -> bytes:
    """Return the content of an idx file, unpacked; nothing beyond what its header announces is read.

    Raises:
        ValueError: if the file is damaged, truncated, too long, or of another format.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read_announced(file, path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"`{path}` is not a sound gzip file (truncated download?): {error}") from error


def _read_announced(file: IO[bytes] | gzip.GzipFile, path: Path) -> bytes:
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08":
        raise ValueError(f"`{path}` is not an idx file of bytes: it begins with {magic.hex(' ') or 'nothing'}")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"`{path}` ends within its header: truncated download?")
    shape = _shape(sizes)
    if (n := math.prod(shape)) > LARGEST:
        raise ValueError(f"`{path}` announces {n} values, shape {shape}; at most {LARGEST} are read: a damaged header?")
    values = file.read(n + 1)
    if len(values) != n:
        held = f"more than {n}" if len(values) > n else len(values)
        raise ValueError(
            f"`{path}` should hold {n} values for shape {shape}, got {held}: "
            + ("a damaged header?" if len(values) > n else "truncated download?")
        )
    return magic + sizes + values


def read_idx(path: Path) -> np.ndarray:
    """Return the values of an idx file, uint8 of the shape in its header; see `read_bytes` for what is refused."""
    content = read_bytes(path)
    start = 4 + 4 * content[3]
    return np.frombuffer(content, np.uint8, offset=start).reshape(_shape(content[4:start]))


def _shape(sizes: bytes) -> tuple[int, ...]:
    return tuple(int(n) for n in np.frombuffer(sizes, ">u4"))


def _digest(files: list[Path]) -> dict[Path, dict[str, str]]:
    """Return the md5 of each file unpacked and, if it is compressed, before that of the file as it is."""
    return {
        path: ({f"{name}.gz": md5_of(path)} if path.suffix == ".gz" else {}) | {name: md5_of(read_bytes(path))}
        for name, path in zip(FILES, files, strict=True)
    }


def _write(job: Job, files: list[Path]) -> np.ndarray:
    """Write the training images and labels, and return the test images (n, 32, 32)."""
    train, labels = _read_pair(*files[:2])
    test, _ = _read_pair(*files[2:])
    job.save_npz(f"{job.dataset}_32x32.npz", x_train=train[..., None], y_train=labels)
    return test


def _read_pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images padded to (n, 32, 32), and labels int64 (n,)."""
    x, y = read_idx(images), read_idx(labels)
    if x.ndim != 3 or x.shape[1:] != (28, 28) or not len(x):
        raise ValueError(f"`{images}` must hold images of shape (n, 28, 28), got {x.shape}")
    checked = check_labels(y, len(x), (0, 9), f"`{labels}`").numpy()
    return np.pad(x, ((0, 0), (2, 2), (2, 2))), checked


def _find_all(folder: Path) -> list[Path]:
    return [_find(folder, name) for name in FILES]


def _find(folder: Path, name: str) -> Path:
    """Return the file `name`, compressed or not, spelt `-idx` (as published) or `.idx` (as some tools unpack it).

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if there are two, unless one is the other unpacked, as torchvision leaves them.
    """
    spellings = [folder / (spelt + end) for spelt in (name, name.replace("-idx", ".idx")) for end in (".gz", "")]
    found = [path for path in spellings if path.is_file()]
    if len(found) > 1:
        pair = len(found) == 2 and found[0].stem == found[1].name
        if not pair or read_bytes(found[0]) != read_bytes(found[1]):
            raise ValueError(f"`{folder}` holds both `{found[0].name}` and `{found[1].name}`: remove one of them")
    how = "`source` must be the folder with the four idx files: " + ", ".join(FILES) + " (or .gz)"
    return found[0] if found else require_file(spellings[0], how)


BUILDERS = {name: make_builder(name, f"{name}_32x32.npz", _find_all, _write, PUBLISHED, _digest) for name in NAMES}
