"""MNIST from its four idx files (.gz or not): padded to 32x32, test images as PNG files.

An idx file: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
32-bit integer, then the values.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from geovae.data.builders.job import Job
from geovae.data.dataset import require_file
from geovae.data.npz import check_labels

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
PUBLISHED = {  # md5, because other data sets (Fashion-MNIST) use the same file names
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


def build(
    source: str | Path, root: str | Path = "data_folders", *, overwrite: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Write `mnist/mnist_32x32.npz` and `mnist/test_folder/*.png` below `root`, and return the report.

    Args:
        source: folder that holds the idx files.
        root: folder of all data sets.
        overwrite: replace the outputs of another build.
        progress: show a progress bar.
    """
    files = [_find(Path(source), name) for name in NAMES]
    targets = ["mnist_32x32.npz", "test_folder"]
    job = Job("mnist", Path(root) / "mnist", targets, files, overwrite=overwrite, published=PUBLISHED)
    if job.is_complete:
        return job.report
    train, train_labels = _read_pair(files[0], files[1])
    test, _ = _read_pair(files[2], files[3])
    job.save_npz("mnist_32x32.npz", x_train=train[..., None], y_train=train_labels)
    job.save_test_images(test, progress=progress)
    return job.finish()


def read_idx(path: Path) -> np.ndarray:
    """Return the unsigned bytes of an idx file, compressed or not.

    Raises:
        ValueError: if the file is damaged, truncated, or of another format.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"`{path}` is not a sound gzip file (truncated download?): {error}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"`{path}` is not an idx file of bytes: it begins with {data[:4].hex(' ') or 'nothing'}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise ValueError(f"`{path}` ends within its header: truncated download?")
    shape = tuple(int(n) for n in np.frombuffer(data[4:start], ">u4"))
    if len(data) - start != math.prod(shape):
        raise ValueError(
            f"`{path}` should hold {math.prod(shape)} values for shape {shape}, got {len(data) - start}: "
            "truncated download?"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _read_pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images padded to (n, 32, 32), and labels int64 (n,)."""
    x, y = read_idx(images), read_idx(labels)
    if x.ndim != 3 or x.shape[1:] != (28, 28) or not len(x):
        raise ValueError(f"`{images}` must hold images of shape (n, 28, 28), got {x.shape}")
    checked = check_labels(y, len(x), (0, 9), f"`{labels}`").numpy()
    return np.pad(x, ((0, 0), (2, 2), (2, 2))), checked


def _find(folder: Path, name: str) -> Path:
    """Return the file `name`, compressed or not, spelt `-idx` (as published) or `.idx` (as some tools unpack it)."""
    spellings = [spelt + end for spelt in (name, name.replace("-idx", ".idx")) for end in (".gz", "")]
    for spelling in spellings:
        if (folder / spelling).is_file():
            return folder / spelling
    how = "`source` must be the folder with the four idx files of MNIST: " + ", ".join(NAMES) + " (or .gz)"
    return require_file(folder / spellings[0], how)
