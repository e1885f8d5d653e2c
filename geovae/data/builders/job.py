"""One build: outputs that appear whole or not at all, a report of checksums, and the way to continue.

The report, `build.json` beside the outputs, is written after every output. It carries a key, the hash of sources and
options: a build with the same key skips what is done and continues what was begun (names that end in `.partial`).
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from geovae.files import atomic_path
from geovae.images.pictures import OnError, map_in_threads, report_bad

REPORT = "build.json"


class Job:
    """The outputs of one data set in `folder`.

    Args:
        dataset: name, for the report.
        folder: where the outputs go.
        targets: names of the outputs, files or folders.
        sources: files whose checksums are reported, and decide whether an earlier build is continued.
        options: what else decides that.
        published: md5 of the files as they are published, by name: the report says whether the sources are those.
        overwrite: whether outputs of another build, or of one that left images out, are replaced.

    Raises:
        FileExistsError: if there are outputs of another build and `overwrite` is false.
    """

    def __init__(
        self,
        dataset: str,
        folder: Path,
        *,
        targets: Sequence[str],
        sources: Sequence[Path],
        options: dict[str, Any],
        overwrite: bool,
        published: Mapping[str, str] | None = None,
    ) -> None:
        """Read what an earlier build left, and decide whether to continue it."""
        self.folder = folder
        checksums = {str(path): checksum(path) for path in sources}
        key = _hash_json([dataset, [c["sha256"] for c in checksums.values()], options])
        report = _read_json(folder / REPORT)
        if report.get("key") == key and not (overwrite and report["skipped"]):
            intact = {n: c for n, c in report["outputs"].items() if self._is_intact(n, c)}
            self.report = report | {"outputs": intact, "complete": report["complete"] and intact == report["outputs"]}
            return
        self._make_room(targets, sources, overwrite)
        for path in sources:
            if path.name in (published or {}):
                checksums[str(path)]["published"] = _hash_file(path, "md5") == (published or {})[path.name]
        self.report = {
            "dataset": dataset,
            "options": options,
            "sources": checksums,
            "outputs": {},
            "skipped": [],
            "complete": False,
            "key": key,
        }

    @property
    def is_complete(self) -> bool:
        """Whether an earlier build with the same key finished, and its outputs are as it left them."""
        return bool(self.report["complete"])

    def begin(self) -> None:
        """Write the report before anything that is meant to be continued."""
        self._save()

    @contextmanager
    def output(self, name: str) -> Iterator[Path]:
        """Give the path to write a file to; it takes its place, and its checksum is noted, when the block ends."""
        with atomic_path(self.folder / name) as temporary:
            yield temporary
        self.note(name)

    def needs(self, name: str) -> bool:
        """Whether output `name` has still to be made."""
        return name not in self.report["outputs"]

    def note(self, name: str) -> None:
        """Enter an output that is in place into the report."""
        self.report["outputs"][name] = checksum(self.folder / name)
        self._save()

    def save_npz(self, name: str, **arrays: np.ndarray) -> None:
        """Write arrays to an output `.npz`, not compressed: it loads faster and the same arrays give the same bytes."""
        if self.needs(name):
            with self.output(name) as path, path.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]

    def save_pngs(
        self,
        name: str,
        files: Sequence[str],
        image: Callable[[int], np.ndarray],
        *,
        progress: bool,
        on_error: OnError = "fail",
    ) -> None:
        """Write an output folder of PNG files, continuing one that was begun.

        Args:
            name: of the folder.
            files: names of the PNG files.
            image: gives uint8 (h, w) or (h, w, 3) for each position in `files`; a ValueError marks a bad source.
            progress: whether to show a bar.
            on_error: whether bad sources are an error or left out, named in the report.
        """
        from PIL import Image

        if not self.needs(name):
            return
        self.begin()
        partial = self.folder / f"{name}.partial"
        partial.mkdir(parents=True, exist_ok=True)
        for broken in partial.glob(".*.partial.png"):
            broken.unlink()
        done = set(os.listdir(partial))
        todo = [i for i, file in enumerate(files) if file not in done]

        def make(position: int) -> None:
            with atomic_path(partial / files[position]) as path:
                Image.fromarray(image(position)).save(path, format="PNG")

        bad = []
        results = map_in_threads(make, todo, title=f"{name} (PNG)", progress=progress)
        for position, result in zip(todo, results, strict=True):
            if isinstance(result, ValueError):
                bad.append(f"{files[position]}: {result}")
        self.skip(bad, len(files), partial, on_error)
        if (self.folder / name).is_dir():  # ours, but no longer what the report says
            shutil.rmtree(self.folder / name)
        os.replace(partial, self.folder / name)
        self.note(name)

    def skip(self, bad: Sequence[str], n: int, where: Path, on_error: OnError) -> None:
        """Fail on bad sources, or warn and name them in the report."""
        report_bad(bad, n, where, on_error)
        self.report["skipped"] += [text for text in bad if text not in self.report["skipped"]]

    def finish(self, **more: Any) -> dict[str, Any]:
        """Mark the report complete, with `more` entries, and return it."""
        self.report |= {"complete": True, **more}
        self._save()
        return self.report

    def _save(self) -> None:
        """Write the report atomically."""
        with atomic_path(self.folder / REPORT) as temporary:
            temporary.write_text(json.dumps(self.report, indent=1) + "\n")

    def _is_intact(self, name: str, noted: dict[str, Any]) -> bool:
        """Whether an output is as the report says."""
        path = self.folder / name
        return path.exists() and checksum(path) == noted

    def _make_room(self, targets: Sequence[str], sources: Sequence[Path], overwrite: bool) -> None:
        """Remove what another build left, if that is allowed; sources that lie in the folder stay."""
        kept = {path.resolve() for path in sources}
        old = [p for p in (self.folder / name for name in targets) if p.exists() and p.resolve() not in kept]
        if old and not overwrite:
            raise FileExistsError(
                f"`{old[0]}` exists and comes from other sources or options: pass overwrite=True to replace it"
            )
        for path in [*old, *self.folder.rglob("*.partial*"), self.folder / REPORT]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def checksum(path: Path) -> dict[str, Any]:
    """Return number of bytes and sha256 of a file; of a folder, number of files, and sha256 over names and hashes."""
    if not path.is_dir():
        return {"bytes": path.stat().st_size, "sha256": _hash_file(path, "sha256")}
    files = sorted(p for p in path.rglob("*") if p.is_file())
    lines = (f"{p.relative_to(path).as_posix()} {checksum(p)['sha256']}\n" for p in files)
    total = hashlib.sha256()
    for line in lines:
        total.update(line.encode())
    return {"files": len(files), "sha256": total.hexdigest()}


def _hash_file(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    """Return a report, or an empty one if there is none that can be read."""
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}
