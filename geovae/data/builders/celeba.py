"""CelebA from `img_align_celeba/*.jpg` (or .zip) and `list_eval_partition.txt`: centre crop of 140, resized to 64x64.

Kaggle's archive is accepted too: `list_eval_partition.csv` with a header, and the images one folder deeper.
Images are decoded into a memory-mapped file, with a flag for each, so that an interrupted build resumes; the tensors of
the layout are then written from that file, chunk by chunk.
"""

import io
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from geovae.checks import check_choice
from geovae.data.builders.job import Job, checksum
from geovae.data.celeba import SHAPE
from geovae.data.dataset import check_common, require_file
from geovae.data.download import Original, Originals
from geovae.images.pictures import OnError, centre_square, map_in_threads, read_picture

STORED, CROP, SIZE = (218, 178, 3), 140, 64
PARTS = ("train", "val", "test")  # 0, 1 and 2 in the partition file
BLOCK = 1024  # images decoded between two writes of the flags to disk
LARGEST = 1 << 24  # bytes of a JPEG file that are read: those of CelebA have at most 20,000
HOW = "`source` must be the folder with list_eval_partition.txt (or .csv) and img_align_celeba/*.jpg (or .zip)"
DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
ORIGINALS = Originals(
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (its Google Drive refuses downloads at busy times)",
    (
        Original(
            "list_eval_partition.txt",
            "md5:d32c9cbf5e040fd4025c592c306e6668",
            (f"{DRIVE}0B7EVK8r0v71pY0NSMzRuSXJEVkk",),
        ),
        Original(
            "img_align_celeba.zip",
            "md5:00d2c5bc6d35e252742224ab0c1e8fcb",
            (f"{DRIVE}0B7EVK8r0v71pZjFTYXZWM3FlRnM",),
        ),
    ),
)


def build(
    source: str | Path,
    root: str | Path = "data_folders",
    *,
    dtype: Literal["float32", "uint8"] = "float32",
    on_error: OnError = "fail",
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Write `celeba/train_data.pt`, `celeba/val_data.pt` and `celeba/test/test/*.png`, and return the report.

    Args:
        source: folder that holds the partition file and the folder of JPEG files.
        root: folder of all data sets.
        dtype: `float32` in [0, 1], the published layout (8 GB, and another 8 GB while it is written), or `uint8`, a
            quarter of that; `load` reads both.
        on_error: `fail` on a missing or damaged JPEG, or `skip` it and list it in the report.
        overwrite: replace the outputs of another build, or of one that skipped images.
        progress: show a progress bar.
    """
    check_common(0, None, on_error)
    check_choice("dtype", dtype, ("float32", "uint8"))
    source, folder = Path(source), Path(root) / "celeba"
    partition, faces = _find(source)
    names = read_partition(partition)
    targets = ["train_data.pt", "val_data.pt", "test/test"]
    # The JPEG files are not part of the key: when a damaged one has been repaired, the build resumes.
    job = Job("celeba", folder, targets, [partition], overwrite=overwrite, options={"dtype": dtype})
    if job.is_complete:
        return job.report
    read = _reader(faces)
    for part in ("train", "val"):
        if job.needs(f"{part}_data.pt"):
            images = _decode_part(job, part, names[part], read, on_error, progress)
            _save_tensor(job, f"{part}_data.pt", images, dtype)
    test = names["test"]
    files = [str(Path(name).with_suffix(".png")) for name in test]
    job.save_pngs("test/test", files, lambda i: read(test[i]), progress=progress, on_error=on_error)
    for decoded in folder.glob("*.partial"):
        decoded.unlink()
    return job.finish(images=checksum(faces))


def _find(source: Path) -> tuple[Path, Path]:
    """Return the partition file, and the folder or the archive of the JPEG files."""
    partition = source / "list_eval_partition.csv"
    if not partition.is_file():
        partition = require_file(source / "list_eval_partition.txt", HOW)
    faces = source / "img_align_celeba"
    nested, archive = faces / faces.name, faces.with_suffix(".zip")
    if not faces.is_dir():
        return partition, require_file(archive, HOW)
    return partition, nested if nested.is_dir() else faces


def read_partition(path: Path) -> dict[str, list[str]]:
    """Return the names of the JPEG files of each part.

    Raises:
        ValueError: naming the first line that is not `<name>.jpg <0, 1 or 2>`, after the header of a .csv with a comma;
            or the part that is empty.
    """
    names: dict[str, list[str]] = {part: [] for part in PARTS}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        fields = line.replace(",", " ").split()
        if not fields or (number == 1 and fields == ["image_id", "partition"]):
            continue
        if len(fields) != 2 or fields[1] not in ("0", "1", "2") or Path(fields[0]).name != fields[0]:
            raise ValueError(f"line {number} of `{path}` must be `<name>.jpg <0, 1 or 2>`, got {line[:60]!r}")
        names[PARTS[int(fields[1])]].append(fields[0])
    empty = [part for part in PARTS if not names[part]]
    if empty:
        raise ValueError(f"`{path}` names no {empty[0]} images: truncated download?")
    return names


def _reader(faces: Path) -> Callable[[str], np.ndarray]:
    """Return the function that reads a face by its name, from a folder or an archive."""
    if faces.is_dir():
        return lambda name: read_face(faces / name)
    try:
        archive = zipfile.ZipFile(faces)  # open as long as the build: it may be read from several threads
    except zipfile.BadZipFile as error:
        raise ValueError(f"`{faces}` is not a sound zip archive (truncated download?): {error}") from error
    members = {Path(member.filename).name: member for member in archive.infolist()}

    def read(name: str) -> np.ndarray:
        if name not in members or members[name].file_size > LARGEST:
            raise ValueError(f"is not in `{faces.name}`" if name not in members else f"has more than {LARGEST} bytes")
        try:
            return read_face(io.BytesIO(archive.read(members[name])))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"cannot be unpacked ({error})") from error

    return read


def read_face(file: Path | io.BytesIO) -> np.ndarray:
    """Return one aligned face, cropped and resized, as uint8 (64, 64, 3).

    Raises:
        ValueError: if the file is missing, damaged, gray, or not 218x178 (h x w).
    """
    from PIL import Image

    array = read_picture(file)
    if array.shape != STORED:
        size = "x".join(map(str, array.shape))
        raise ValueError(f"is {size}, expected 218x178x3 (h x w x c, the aligned and cropped images)")
    face = centre_square(Image.fromarray(array), CROP)
    return np.asarray(face.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def _decode_part(
    job: Job, part: str, names: list[str], read: Callable[[str], np.ndarray], on_error: OnError, progress: bool
) -> np.ndarray:
    """Return the images of a part, uint8 (n, 3, 64, 64), memory-mapped from a file that survives an interruption."""
    job.save_report()
    images = _map(job.folder / f"{part}_images.partial", (len(names), *SHAPE))
    done = _map(job.folder / f"{part}_done.partial", (len(names),))
    todo = np.flatnonzero(done[:] != 1)
    results = map_in_threads(lambda i: read(names[i]), todo.tolist(), title=f"{part} (JPEG)", progress=progress)
    bad = []
    for count, (i, result) in enumerate(zip(todo, results, strict=True), 1):
        if isinstance(result, ValueError):
            bad.append(f"{names[i]}: {result}")
            continue
        images[i] = result.transpose(2, 0, 1)
        done[i] = 2  # decoded, but perhaps not yet on disk
        if count % BLOCK == 0:
            _flush(images, done)
    _flush(images, done)
    job.skip(bad, len(names), job.folder / part, on_error)
    return images if not bad else images[done[:] == 1]


def _flush(images: np.memmap, done: np.memmap) -> None:
    """Write the images to disk, and only then their flags: after a crash a flag never stands for a missing image."""
    images.flush()
    done[done == 2] = 1
    done.flush()


def _map(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """Map a file of bytes, zeros where it is new."""
    size = int(np.prod(shape))
    if not path.exists() or path.stat().st_size != size:
        with path.open("wb") as file:
            os.truncate(file.fileno(), size)
    return np.memmap(path, np.uint8, "r+", shape=shape)


def _save_tensor(job: Job, name: str, images: np.ndarray, dtype: str) -> None:
    """Write images (n, 3, 64, 64) as a tensor: uint8, or floating point in [0, 1]."""
    floats = job.folder / f"{name}.floats.partial"
    tensor: Tensor = torch.from_numpy(images)
    if dtype == "float32":
        # a mapped file, because the floats of the whole set may not fit into memory
        tensor = torch.from_file(str(floats), shared=True, size=images.size, dtype=torch.float32).view(images.shape)
        for start in range(0, len(images), BLOCK):
            block = torch.from_numpy(images[start : start + BLOCK])
            torch.div(block, 255, out=tensor[start : start + BLOCK])
    with job.output(name) as path, path.open("wb") as file:  # given a path, torch.save writes its name into the file
        torch.save(tensor, file)
    floats.unlink(missing_ok=True)
