"""`OASIS.npz` and `manifest.csv`: written as a stream, one subject in memory at a time, and appearing whole."""

import csv
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from geovae.mri.problems import Problem

KEYS = ("x_train", "y_train", "ids", "subjects", "split", "age", "sex", "cdr", "affines", "slice_mm", "settings")


def write_npz(path: Path, images: Iterable[np.ndarray], shape: tuple[int, int, int], arrays: Mapping[str, Any]) -> Path:
    """Write `x_train`, uint8 (n, h, w, 1), and further arrays, not compressed; equal content gives equal bytes.

    Args:
        path: of the file.
        images: blocks (m, h, w) of uint8 that together are (n, h, w).
        shape: (n, h, w).
        arrays: what else to store, by name; no objects.
    """
    with atomic(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        with _entry(archive, "x_train") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (*shape, 1)}
            np.lib.format.write_array_header_1_0(file, header)
            rows = 0
            for block in images:
                if block.dtype != np.uint8 or block.shape[1:] != shape[1:]:
                    raise ValueError(
                        f"images must be uint8 (m, {shape[1]}, {shape[2]}), got {block.dtype} {block.shape}"
                    )
                file.write(np.ascontiguousarray(block).data)
                rows += len(block)
        if rows != shape[0]:
            raise ValueError(f"`images` held {rows} rows, {shape[0]} were announced")
        for name, values in arrays.items():
            with _entry(archive, name) as file:
                np.lib.format.write_array(file, np.asarray(values), allow_pickle=False)
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write dicts of the same keys as a table."""
    with atomic(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
    return path


def check_npz(path: str | Path) -> list[Problem]:
    """Return every problem of an `OASIS.npz`: keys, types, shapes, lengths, and the range of each image."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return [Problem(path.name, sentence) for sentence in _npz_problems(archive)]
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError, EOFError) as error:
        return [Problem(path.name, f"not a sound npz archive: {error}")]


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a path to write to; the file takes its place when the block ends, or is removed if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    partial = path.with_name(
        f".{path.name.removesuffix(end)}.{os.getpid()}.partial{end}"
    )  # numpy and nibabel heed the end
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _npz_problems(archive: Any) -> list[str]:
    missing = [key for key in ("x_train", "y_train") if key not in archive.files]
    if missing:
        return [f"missing key {', '.join(missing)}; it holds {', '.join(archive.files) or 'nothing'}"]
    arrays, problems = {}, []
    for name in archive.files:
        try:
            arrays[name] = archive[name]
        except ValueError as error:
            kind = "is an object array, which is never unpickled" if "allow_pickle" in str(error) else str(error)
            problems.append(f"`{name}` {kind}")
    if "x_train" not in arrays:
        return problems
    images = arrays["x_train"]
    if images.ndim != 4 or images.shape[-1] != 1 or 0 in images.shape:
        return [*problems, f"`x_train` must have shape (n, h, w, 1), got {images.shape}"]
    if images.dtype.kind not in "uif":
        return [*problems, f"`x_train` must hold numbers, got {images.dtype}"]
    low, high = images.min(axis=(1, 2, 3)), images.max(axis=(1, 2, 3))
    wrong = np.flatnonzero((low != 0) | (high != 255))
    if len(wrong):
        problems.append(
            f"every image must reach from 0 to 255, {len(wrong)} do not: the first is row {wrong[0]}, "
            f"{low[wrong[0]]:g} to {high[wrong[0]]:g}"
        )
    for name, values in arrays.items():
        if name in KEYS and name != "settings" and len(np.atleast_1d(values)) != len(images):
            problems.append(f"`{name}` has {len(np.atleast_1d(values))} rows, `x_train` {len(images)}")
    return problems


@contextmanager
def _entry(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """Open one array of the archive for writing, under a fixed date."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
        yield file
