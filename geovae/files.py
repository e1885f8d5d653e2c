"""Atomic writes: a reader sees the old file or the new one, never a part. Hashes, locks, sizes before unpacking."""

import hashlib
import os
import platform
import secrets
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
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
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"  # in the name of a temporary: a lock may not reach other machines
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
    suffix = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    with _temporary(path, suffix, Path.touch) as temporary:
        try:
            yield temporary
            flush_to_disk(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside the new folder `path`, which appears with all its files when the block ends.

    Raises:
        OSError: if `path` is a folder with files by then.
    """
    with _temporary(Path(path), "", Path.mkdir) as temporary:
        try:
            yield temporary
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _temporary(path: Path, suffix: str, make: Callable[[Path], None]) -> Iterator[Path]:
    """Make a temporary beside `path`, and hold a lock on it, by which others see that its writer lives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = f".{path.name.removesuffix(suffix)}."
    for leftover in path.parent.glob(f"{escape(start)}*.partial{escape(suffix)}"):
        _remove_if_dead(leftover)
    temporary, handle = _make(path, start, suffix, make)
    try:
        yield temporary
    finally:
        if handle is not None:
            os.close(handle)


def _make(path: Path, start: str, suffix: str, make: Callable[[Path], None]) -> tuple[Path, int | None]:
    """Make a temporary, and return it with the handle that has its lock."""
    while True:
        # The token keeps apart two threads and two machines that write the same file of a shared folder.
        temporary = path.with_name(f"{start}{_HOST}-{secrets.token_hex(4)}.partial{suffix}")
        make(temporary)
        if fcntl is None:  # and there, a file that is open cannot be replaced
            return temporary, None
        with suppress(FileNotFoundError):
            handle = os.open(temporary, os.O_RDONLY)
            with suppress(BlockingIOError, FileNotFoundError):
                lock_file(handle)
                if os.path.samestat(os.fstat(handle), temporary.stat()):
                    return temporary, handle
            os.close(handle)  # another process took it for a leftover before it had a lock


def _remove_if_dead(leftover: Path) -> None:
    """Remove a temporary whose writer was killed.

    On another machine, or where there are no locks, it is taken for dead if it has not changed for a day.
    """
    with suppress(OSError):  # another process has removed or renamed it, or holds it
        handle = os.open(leftover, os.O_RDONLY)
        try:
            free = lock_file(handle) and _HOST in leftover.name
            if free or time.time() - os.fstat(handle).st_mtime > DAY:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        finally:
            os.close(handle)


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file's content as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def remove_partial(folder: Path) -> None:
    """Remove what a killed process left of atomic writes in a folder that no other process writes to."""
    for temporary in folder.glob(".*.partial*"):
        temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Make the content durable before the rename: after a power cut the new name must not hold an empty file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_file(file: IO[Any] | int) -> bool:
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


def check_memory(what: str, size: int) -> None:
    """Raise a ValueError if `size` bytes are more than the memory of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise ValueError(f"{what} {size:.3g} bytes, more than the memory of this machine, {memory:.3g}")


def check_unpacked(where: str, size: int, packed: int) -> None:
    """Raise a ValueError for a decompression bomb: `size` bytes of content, `packed` bytes in a file."""
    check_memory(f"{where} unpacks to", size)
    if size > LARGE and size > RATIO * packed:
        raise ValueError(
            f"{where} unpacks from {packed} to {size} bytes: a decompression bomb; store real data uncompressed"
        )


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
    except FileNotFoundError:  # another process has deleted it meanwhile
        raise FileNotFoundError(f"no file {path}") from None
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
