"""Arrays from `.npz` files, read as a stream: images of any type become uint8 chunk by chunk.

A `.npz` is a zip archive of `.npy` entries. `numpy.load` would hold float64 images whole, eight times the result.
Nothing is unpickled: an array of Python objects is refused.
"""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from geovae.files import check_unpacked

CHUNK = 1 << 22  # elements in memory beside the result


@dataclass
class _Member:
    """One array of the archive: the fields of its header, and the stream of its values."""

    file: IO[bytes]
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    where: str


def keys(path: Path) -> list[str]:
    """Return the names of the arrays in the archive."""
    with _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def read_images(path: Path, key: str = "x_train", image_shape: tuple[int, int, int] | None = None) -> Tensor:
    """Return the images under `key`, values 0 to 255, as uint8 (n, c, h, w).

    Args:
        path: of the archive.
        key: of an array (n, h, w, c), or (n, h, w) for gray images.
        image_shape: the expected (c, h, w); None allows any size with one or three channels.

    Raises:
        ValueError: for a wrong file, key, shape, type or range.
    """
    with _open(path, key) as member:
        n, h, w, c = _image_dimensions(member, image_shape)
        quantise = _Quantiser(member.where)
        if member.fortran:  # stored as (c, w, h, n): a chunk holds no whole images, so all chunks are joined first
            flat = np.concatenate([quantise(x) for x in _chunks(member, CHUNK)])
            images = np.ascontiguousarray(flat.reshape(c, w, h, n).transpose(3, 0, 2, 1))
        else:
            images = np.empty((n, c, h, w), np.uint8)
            row = 0
            for x in _chunks(member, max(1, CHUNK // (h * w * c)) * h * w * c):
                block = quantise(x).reshape(-1, h, w, c)
                images[row : row + len(block)] = block.transpose(0, 3, 1, 2)
                row += len(block)
        quantise.finish()
    return torch.from_numpy(images)


def read_array(path: Path, key: str) -> np.ndarray:
    """Return a small array (labels, ids), unchanged.

    Raises:
        ValueError: for a missing key, an object array, or a damaged file.
    """
    with _open(path, key) as member:
        values = np.concatenate([np.empty(0, member.dtype), *_chunks(member, CHUNK)])
        return values.reshape(member.shape, order="F" if member.fortran else "C")


def read_labels(path: Path, key: str, n: int, allowed: tuple[int, int] | None = None) -> Tensor:
    """Return the `n` labels under `key` as int64 (n,); see `check_labels`."""
    return check_labels(read_array(path, key), n, allowed, f"`{key}` of `{path}`")


def check_labels(labels: np.ndarray, n: int, allowed: tuple[int, int] | None, where: str) -> Tensor:
    """Return labels (n,) or (n, 1), whole numbers of any type, as int64 (n,).

    Raises:
        ValueError: if their number, type or range (`allowed`, both ends included) is wrong.
    """
    if labels.shape not in {(n,), (n, 1)}:
        raise ValueError(f"{where} must hold one label for each of the {n} images, got shape {labels.shape}")
    if labels.dtype.kind not in "iuf":
        raise ValueError(f"{where} must hold numbers, got {labels.dtype}")
    flat = labels.reshape(-1)
    if not np.array_equal(flat, np.floor(flat)):  # NaN is not equal to itself
        raise ValueError(f"{where} must hold whole numbers, got values such as {flat[flat != np.floor(flat)][0]}")
    if allowed is not None and not (allowed[0] <= flat.min() and flat.max() <= allowed[1]):
        low, high = allowed
        raise ValueError(f"{where} must hold labels from {low} to {high}, got {flat.min():g} to {flat.max():g}")
    return torch.from_numpy(flat.astype(np.int64))


@dataclass
class _Quantiser:
    """Converts chunks to uint8, and keeps the largest value: only that of the whole file shows a scale of [0, 1]."""

    where: str
    highest: float = field(default=0.0)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        low, high = float(values.min()), float(values.max())
        if np.isnan(low):
            raise ValueError(f"{self.where} holds NaN")
        if low < 0 or high > 255:
            raise ValueError(f"{self.where} must hold values from 0 to 255, got {low:g} to {high:g}")
        self.highest = max(self.highest, high)
        return values if values.dtype == np.uint8 else np.rint(values).astype(np.uint8)

    def finish(self) -> None:
        """Raise ValueError if no value was above 1."""
        if self.highest <= 1:
            raise ValueError(
                f"{self.where} must hold values from 0 to 255, but none is above {self.highest:g}: "
                "it looks like images in [0, 1]; multiply them by 255"
            )


def _image_dimensions(member: _Member, image_shape: tuple[int, int, int] | None) -> tuple[int, int, int, int]:
    """Return (n, h, w, c), or raise ValueError if type or shape are not the expected ones."""
    if member.dtype.kind not in "iuf":
        raise ValueError(f"{member.where} must hold numbers from 0 to 255, got {member.dtype}")
    shape = member.shape if len(member.shape) == 4 else (*member.shape, 1)
    fits = len(shape) == 4 and shape[3] in (1, 3)
    if image_shape is not None:
        c, h, w = image_shape
        fits = fits and shape[1:] == (h, w, c)
        expected = f"(n, {h}, {w}, {c})"
    else:
        expected = "(n, h, w, 1) or (n, h, w, 3)"
    if not fits:
        raise ValueError(f"{member.where} must have shape {expected}, got {member.shape}")
    if 0 in shape:
        raise ValueError(f"{member.where} is empty: its shape is {member.shape}")
    n, h, w, c = shape
    return n, h, w, c


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the archive; damage found here or inside the block becomes a ValueError that names the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (ValueError, FileNotFoundError):
        raise
    except Exception as error:  # for damaged bytes zipfile and its decompressors raise many types
        raise ValueError(f"`{path}` is not a sound npz archive (truncated, or another format?): {error}") from error


@contextmanager
def _open(path: Path, key: str) -> Iterator[_Member]:
    """Open one array of the archive and read its header."""
    with _archive(path) as archive:
        if f"{key}.npy" not in archive.namelist():
            found = ", ".join(n.removesuffix(".npy") for n in archive.namelist()) or "nothing"
            raise ValueError(f"`{path}` has no array `{key}`; it holds: {found}")
        with archive.open(f"{key}.npy") as file:
            member = _header(file, f"`{key}` of `{path}`")
            stored = archive.getinfo(f"{key}.npy")
            held = stored.file_size - file.tell()
            size = math.prod(member.shape) * member.dtype.itemsize
            if held != size:  # checked first: a damaged header could ask for more memory than there is
                raise ValueError(
                    f"{member.where} holds {held} bytes, its shape {member.shape} needs {size}: truncated?"
                )
            # values of images are converted as they are read: a byte each
            check_unpacked(member.where, math.prod(member.shape), stored.compress_size)
            yield member


def _header(file: IO[bytes], where: str) -> _Member:
    """Read the `.npy` header at the start of the stream."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"its shape is {shape}")
    except Exception as error:  # for damaged bytes NumPy's parser raises many types
        raise ValueError(f"{where} is not a sound npy array: {error}") from error
    if dtype.hasobject:
        raise ValueError(f"{where} is an array of Python objects, which is never unpickled: save it as numbers")
    return _Member(file, shape, fortran, dtype, where)


def _chunks(member: _Member, size: int) -> Iterator[np.ndarray]:
    """Yield the values in the order of the file, `size` at a time."""
    left = math.prod(member.shape)
    while left > 0:
        data = member.file.read(min(size, left) * member.dtype.itemsize)
        yield np.frombuffer(data, member.dtype)
        left -= size
