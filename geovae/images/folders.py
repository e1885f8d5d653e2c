"""The one walker of folders: it finds the data files, and counts the files that it leaves out.

Links are followed. A path part that begins with `.` (notebook checkpoints, `._` companions of macOS, `.git`) or is
`__MACOSX` holds no data.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HIDDEN, OTHER, TWICE, BROKEN = "hidden", "of another suffix", "links to a file that is found already", "broken links"
NAMED = 5  # files that a message names


class Found(NamedTuple):
    """The files, sorted by path, and the files and hidden folders left out, by reason."""

    files: list[Path]
    left_out: dict[str, list[Path]]

    def describe_left_out(self, folder: Path) -> str:
        """Return, for example, "2 hidden (a, b), 1 of another suffix (c)", relative to `folder`; "" for none."""
        parts = []
        for reason, paths in self.left_out.items():
            names = [str(path.relative_to(folder)) for path in paths[:NAMED]] + ["..."] * (len(paths) > NAMED)
            parts.append(f"{len(paths)} {reason} ({', '.join(names)})")
        return ", ".join(parts)


def walk_files(folder: str | Path, suffixes: Sequence[str]) -> Found:
    """Return the files below `folder` and its sub-folders whose names end in one of `suffixes`, in any case.

    Each real file is returned once, under the first of its paths. A hidden folder is left out as a whole; a hidden file
    of another suffix (`.DS_Store`) is not counted.

    Args:
        folder: may itself be hidden or a link.
        suffixes: such as (".png", ".nii.gz"); ("",) returns every file that is not hidden.

    Raises:
        ValueError: for a link to a folder above it, because the walk would not end.
    """
    wanted = tuple(suffix.lower() for suffix in suffixes)
    files: list[Path] = []
    left_out: dict[str, list[Path]] = {}
    seen: set[str] = set()
    for path, real in _walk(Path(folder), ()):
        matches = path.name.lower().endswith(wanted)
        reason = _reason(path, matches) or (TWICE if real in seen else "")
        if not reason:
            seen.add(real)
            files.append(path)
        elif reason != HIDDEN or matches or path.is_dir():
            left_out.setdefault(reason, []).append(path)
    return Found(files, left_out)


def is_hidden(name: str) -> bool:
    """Return whether a path part is hidden, or a folder of macOS's resource forks."""
    return name.startswith(".") or name == "__MACOSX"


def _reason(path: Path, matches: bool) -> str:
    """Return the reason to leave a path out, "" for none."""
    if is_hidden(path.name):
        return HIDDEN
    if not path.is_file():
        return BROKEN if path.is_symlink() else OTHER
    return "" if matches else OTHER


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Yield files and hidden folders below `folder`, each with its real path; `above` are the real parent folders."""
    real = os.path.realpath(folder)
    if real in above:
        raise ValueError(f"`{folder}` links to a folder above it, `{real}`: remove the link")
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        path = folder / entry.name
        if entry.is_dir() and not is_hidden(entry.name):
            yield from _walk(path, (*above, real))
        else:
            # `realpath` is slow; for a plain file the real path follows from its folder's.
            yield path, os.path.realpath(path) if entry.is_symlink() else os.path.join(real, entry.name)
