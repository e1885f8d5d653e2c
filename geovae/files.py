"""Atomic writes: a reader sees the old file or the new one, never a part. Hashes, locks, sizes before unpacking."""

import hashlib
import os
import secrets
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO, Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

DAY = 86_400  # seconds
LARGE = 1 << 28  # bytes; whatever unpacks to more must be packed no better than RATIO
RATIO = 500  # of zeros alone zlib makes 1,030; of images, rarely above 30


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, which is made if needed.

    When the block ends, the file written there replaces `path`; when the block raises, it is removed. The name starts
    with a dot, so that readers of the folder skip it, and ends as `path` does: NumPy and nibabel choose the format by
    the suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    # The token keeps apart two threads and two machines that write the same file of a shared folder.
    temporary = path.with_name(f".{path.name.removesuffix(suffix)}.{secrets.token_hex(4)}.partial{suffix}")
    _remove_leftovers(path, suffix)
    try:
        yield temporary
        flush_to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file's content as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def remove_partial(folder: Path) -> None:
    """Remove what a killed process left of atomic writes in a folder that no other process writes to."""
    for temporary in folder.glob(".*.partial*"):
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path, suffix: str) -> None:
    """Remove what writers of `path` left that were killed; nobody writes a file for a day without changing it."""
    for leftover in path.parent.glob(f".{escape(path.name.removesuffix(suffix))}.*.partial{escape(suffix)}"):
        with suppress(OSError):  # another process has removed or renamed it
            if time.time() - leftover.stat().st_mtime > DAY:
                leftover.unlink()


def flush_to_disk(path: Path) -> None:
    """Make the content durable before the rename: after a power cut the new name must not hold an empty file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_file(file: IO[Any]) -> bool:
    """Lock an open file for this process; return False where the system or the file system has no locks.

    Raises:
        BlockingIOError: if another process holds it.
    """
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # work without a lock rather than not at all
        return False
    return fcntl is not None


def unlock_file(file: IO[Any]) -> None:
    """Unlock a file. Closing it is not enough: a forked child still has it open."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


def check_unpacked(where: str, size: int, packed: int) -> None:
    """Raise a ValueError for a decompression bomb: `size` bytes of content, `packed` bytes in a file."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise ValueError(f"{where} unpacks to {size:.3g} bytes, more than the memory of this machine, {memory:.3g}")
    if size > LARGE and size > RATIO * packed:
        raise ValueError(f"{where} unpacks from {packed} to {size} bytes: a decompression bomb, or empty")


def read_npz(path: Path | str, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays `names` (None: all) of a small npz file; nothing is unpickled.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, is no npz, or lacks one of the arrays.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            if not archive.namelist():
                raise ValueError("it is empty")
            for member in archive.infolist():
                check_unpacked(f"its `{member.filename[:50]}`", member.file_size, member.compress_size)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names or arrays.files}
    except Exception as error:  # for damaged bytes the readers of zip and npy raise many types
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise ValueError(f"`{path}` is not a sound npz archive: {reason}") from error


def read_npy(path: Path | str) -> np.ndarray:
    """Return the array of an npy file, which must end where its header says; nothing is unpickled.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or is no npy file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with open(path, "rb") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            left = len(file.read(1))
    except Exception as error:  # for damaged bytes NumPy raises many types
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise ValueError(f"`{path}` is not a sound npy file: {reason}") from error
    if left:
        raise ValueError(f"`{path}` is longer than its header says: {array.nbytes} bytes of values, and more")
    return array
