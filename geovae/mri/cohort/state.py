"""One small file for each finished session: what makes `prepare` resumable, and what quality figures are made from.

A file holds the key of its settings and its input; another key, or a file that cannot be read, means work to be done.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geovae.mri.cohort.discover import Session
from geovae.mri.cohort.export import atomic
from geovae.mri.cohort.process import Processed, middle_planes
from geovae.mri.steps.files import both_halves


def input_files(session: Session) -> list[Path]:
    """Return the files a session is made from; those that exist."""
    files: list[Path] = []
    for path in (session.path, session.mask):
        if path is not None:
            try:
                files += dict.fromkeys(both_halves(path))
            except (ValueError, FileNotFoundError):
                files += [path] if path.is_file() else []
    return files


def input_digest(session: Session) -> str:
    """Return a hash of the content of a session's files, 32 hex digits."""
    total = hashlib.blake2b(digest_size=16)
    for path in input_files(session):
        total.update(path.read_bytes())
    return total.hexdigest()


def state_key(session: Session, settings: dict[str, Any]) -> str:
    """Return a hash of settings and of name, size and time of change of the files: cheap, so it serves to resume."""
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in input_files(session)]
    return hashlib.sha256(json.dumps([session.id, files, settings], sort_keys=True).encode()).hexdigest()


def save_state(path: Path, key: str, digest: str, done: Processed) -> None:
    """Write one finished session, atomically."""
    planes = {f"plane_{axis}": plane for axis, plane in middle_planes(done.volume).items()}
    with atomic(path) as partial:
        np.savez(
            partial,
            key=key,
            digest=digest,
            numbers=json.dumps(done.numbers),
            pictures=done.pictures,
            affines=done.affines,
            slice_mm=done.slice_mm,
            thumb=done.thumb,
            grid_affine=done.volume.affine,
            before=done.before[0],
            before_edges=done.before[1],
            after=done.after,
            **planes,  # type: ignore[arg-type]
        )


def load_state(path: Path, key: str | None = None, names: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Return the content of a session's file, `numbers` as a dict; None if it is missing, damaged or of another key.

    Args:
        path: of the file.
        key: that it must have.
        names: what to read; None reads everything.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if key is not None and str(archive["key"]) != key:
                return None
            state: dict[str, Any] = {name: archive[name] for name in names or archive.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    decode: dict[str, Callable[[Any], Any]] = {"numbers": lambda text: json.loads(str(text)), "digest": str}
    return state | {name: decode[name](state[name]) for name in decode if name in state}
