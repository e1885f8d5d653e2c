"""Atomic writes: a reader sees the old file or the new one, never a part of it. Locks between processes."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


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
    try:
        yield temporary
        flush_to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Make the content durable before the rename: after a power cut the new name must not hold an empty file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_file(file: IO[Any]) -> None:
    """Lock an open file for this process; where the system or the file system has no locks, nothing is locked.

    Raises:
        BlockingIOError: if another process holds it.
    """
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # work without a lock rather than not at all
        return


def unlock_file(file: IO[Any]) -> None:
    """Unlock a file. Closing it is not enough: a forked child still has it open."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
