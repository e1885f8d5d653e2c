"""Atomic writes: a reader sees the old file or the new one, never a part of it."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
