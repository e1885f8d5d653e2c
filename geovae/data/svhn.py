"""Street View House Numbers: the published `svhn/train_32x32.mat` and, if they exist, the PNG test images."""

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geovae.data import npz
from geovae.data.dataset import DataSet, Split
from geovae.data.held_out import make_loader
from geovae.files import check_unpacked

SHAPE = (3, 32, 32)
COMPRESSED = 15  # type of an element of a .mat file (MATLAB's MAT-file format, level 5)


def read_mat(path: Path) -> Split:
    """Return the images `X` (32, 32, 3, n) and labels `y` (1 to 10) of a published file; label 10 becomes 0.

    Raises:
        ValueError: for a damaged file, a missing array, or a wrong shape, type, range or number of labels.
    """
    arrays = _load_arrays(path)
    missing = [key for key in ("X", "y") if key not in arrays]
    if missing:
        found = ", ".join(key for key in arrays if not key.startswith("__")) or "nothing"
        raise ValueError(f"`{path}` has no array `{missing[0]}`; it holds: {found}")
    images = _channels_first(arrays["X"], f"`X` of `{path}`")
    labels = npz.check_labels(arrays["y"], len(images), (1, 10), f"`y` of `{path}`")
    return Split(images, labels % 10)


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a .mat file of version 5."""
    from scipy.io import loadmat

    check_unpacked(f"`{path}`", _unpacked_size(path), path.stat().st_size)
    try:
        arrays: dict[str, np.ndarray] = loadmat(path)
    except Exception as error:  # for damaged bytes scipy raises many types
        raise ValueError(f"`{path}` is not a sound .mat file (truncated, or another format?): {error}") from error
    return arrays


def _unpacked_size(path: Path) -> int:
    """Return the largest size that a compressed element of a .mat file says it unpacks to, in bytes; 0 without any."""
    largest, start, size = 0, 128, path.stat().st_size
    with path.open("rb") as file:  # scipy unpacks an element before it says how large it is
        while start + 8 <= size:
            file.seek(start)
            kind, length = struct.unpack("<2I", file.read(8))
            with suppress(zlib.error, struct.error):  # damaged bytes: scipy's to say
                if kind == COMPRESSED:
                    largest = max(largest, *struct.unpack("<4xI", zlib.decompressobj().decompress(file.read(256), 8)))
            start += 8 + length
    return largest


def _channels_first(x: np.ndarray, where: str) -> Tensor:
    """Return `x` (32, 32, 3, n) as (n, 3, 32, 32)."""
    if x.dtype != np.uint8:
        raise ValueError(f"{where} must hold uint8 from 0 to 255, got {x.dtype}")
    if x.ndim != 4 or x.shape[:3] != (32, 32, 3) or not x.shape[3]:
        raise ValueError(f"{where} must have shape (32, 32, 3, n), got {x.shape}")
    if x.max() <= 1:
        raise ValueError(f"{where} must hold values from 0 to 255, but none is above {x.max()}: is it in [0, 1]?")
    images = torch.empty((x.shape[3], *SHAPE), dtype=torch.uint8)
    for start in range(0, len(images), 4096):
        images[start : start + 4096] = torch.from_numpy(x[..., start : start + 4096].transpose(3, 2, 0, 1))
    return images


LOAD = make_loader("svhn", "train_32x32.mat", SHAPE, "train_32x32.mat and test_32x32.mat", read_mat)
DATASET = DataSet(LOAD, SHAPE, extractor="trained")
