"""One build: atomic outputs, a report with their checksums, and how a build resumes.

The report, `build.json` beside the outputs, is written after every output. Its key is a hash of sources and options: a
build with the same key skips finished outputs and resumes the others (files and folders named `*.partial`).
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from geovae.files import atomic_path, hash_file
from geovae.images.pictures import OnError, map_in_threads, report_bad

REPORT = "build.json"


class Job:
    """The outputs of one data set in `folder`.

    Args:
        dataset: name, for the report.
        folder: where the outputs go.
        targets: names of the outputs, files or folders.
        sources: files; their checksums go into the report and the key.
        overwrite: whether outputs of another build, or of one that skipped images, are replaced.
        options: the other part of the key.
        published: whether a source is a published file, for the report; see `check_published`.

    Raises:
        FileExistsError: if there are outputs of another build and `overwrite` is false.
    """

    def __init__(
        self,
        dataset: str,
        folder: Path,
        targets: Sequence[str],
        sources: Sequence[Path],
        *,
        overwrite: bool,
        options: Mapping[str, Any] | None = None,
        published: Mapping[str, bool] | None = None,
    ) -> None:
        """Resume an earlier build with the same key, or begin one beside its outputs."""
        self.dataset, self.folder, options = dataset, folder, dict(options or {})
        checksums = {str(path): checksum(path) for path in sources}
        # Without the paths of the sources: the same files in another folder are the same build.
        content = [dataset, [c["sha256"] for c in checksums.values()], options]
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        report = _read_json(folder / REPORT)
        if report.get("key") == key and not (overwrite and report["skipped"]):
            # Outputs may have been deleted or damaged since: those are made again.
            paths = {name: folder / name for name in report["outputs"]}
            intact = {n: c for n, c in report["outputs"].items() if paths[n].exists() and checksum(paths[n]) == c}
            self.report = report | {"outputs": intact, "complete": report["complete"] and intact == report["outputs"]}
            return
        self._make_room(targets, sources, overwrite)
        for path, fits in (published or {}).items():
            checksums[path]["published"] = fits
        self.report = {"dataset": dataset, "options": options, "sources": checksums, "outputs": {}, "skipped": []}
        self.report |= {"complete": False, "key": key}

    @property
    def is_complete(self) -> bool:
        """Whether an earlier build with the same key finished, and its outputs are unchanged."""
        return bool(self.report["complete"])

    def save_report(self) -> None:
        """Write the report, atomically; with its key on disk, what a killed build left is resumed."""
        with atomic_path(self.folder / REPORT) as temporary:
            temporary.write_text(json.dumps(self.report, indent=1) + "\n")

    @contextmanager
    def output(self, name: str) -> Iterator[Path]:
        """Yield a temporary path; when the block ends, the file becomes output `name` and is added to the report."""
        self.save_report()  # first: an output that a killed build left must not pass for another build's
        with atomic_path(self.folder / name) as temporary:
            yield temporary
        self.add_output(name)

    def needs(self, name: str) -> bool:
        """Return whether output `name` has still to be made."""
        return name not in self.report["outputs"]

    def add_output(self, name: str) -> None:
        """Add the existing output `name` to the report, with its checksum."""
        self.report["outputs"][name] = checksum(self.folder / name)
        self.save_report()

    def save_npz(self, name: str, **arrays: np.ndarray) -> None:
        """Write arrays to the output `name`, an `.npz`."""
        if self.needs(name):
            # Not compressed: it loads faster, and the bytes do not depend on the version of zlib.
            with self.output(name) as path, path.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]

    def save_test_images(self, images: np.ndarray, *, progress: bool) -> None:
        """Write uint8 images (n, h, w) or (n, h, w, 3) to the output folder `test_folder`, as numbered PNG files."""
        names = [f"{i:05d}.png" for i in range(len(images))]
        self.save_pngs("test_folder", names, lambda i: images[i], progress=progress)

    def save_pngs(
        self,
        name: str,
        files: Sequence[str],
        image: Callable[[int], np.ndarray],
        *,
        progress: bool,
        on_error: OnError = "fail",
    ) -> None:
        """Write an output folder of PNG files, or resume writing it.

        Args:
            name: of the folder.
            files: names of the PNG files.
            image: returns uint8 (h, w) or (h, w, 3) for a position in `files`; raises ValueError for a bad source.
            progress: whether to show a bar.
            on_error: `fail` on bad sources, or `skip` them and list them in the report.
        """
        from PIL import Image

        if not self.needs(name):
            return
        self.save_report()
        partial = self.folder / f"{name}.partial"
        partial.mkdir(parents=True, exist_ok=True)
        done = {path.name for path in partial.iterdir() if path.stat().st_size}
        todo = [i for i, file in enumerate(files) if file not in done]

        def make(position: int) -> None:
            # Renamed, but without the fsync of `atomic_path`: thousands of them take minutes. A crash of the program
            # leaves whole files. A power cut can leave empty ones: these are not `done`. The folder becomes an output
            # only when all files are written, and the next build compares its checksum.
            temporary = partial / f".{files[position]}.partial"
            Image.fromarray(image(position)).save(temporary, format="PNG")
            temporary.replace(partial / files[position])

        bad = []
        results = map_in_threads(make, todo, title=f"{name} (PNG)", progress=progress)
        for position, result in zip(todo, results, strict=True):
            if isinstance(result, ValueError):
                bad.append(f"{files[position]}: {result}")
        self.skip(bad, len(files), partial, on_error)
        for leftover in partial.glob(".*.partial"):  # of a build that was killed while it wrote
            leftover.unlink()
        if (self.folder / name).is_dir():  # an output whose checksum no longer agrees with the report
            shutil.rmtree(self.folder / name)
        partial.replace(self.folder / name)
        self.add_output(name)

    def skip(self, bad: Sequence[str], n: int, where: Path, on_error: OnError) -> None:
        """Fail on bad sources, or warn and list them in the report."""
        report_bad(bad, n, where, on_error)
        self.report["skipped"] += [text for text in bad if text not in self.report["skipped"]]

    def finish(self, **more: Any) -> dict[str, Any]:
        """Mark the report complete, with `more` entries, and return it."""
        self.report |= {"complete": True, **more}
        self.save_report()
        return self.report

    def _make_room(self, targets: Sequence[str], sources: Sequence[Path], overwrite: bool) -> None:
        """Remove what another build left half-written; its outputs stay until new ones replace them."""
        kept = {path.resolve() for path in sources}  # a source may lie in the target folder
        old = [p for p in (self.folder / name for name in targets) if p.exists() and p.resolve() not in kept]
        if old and not overwrite:
            raise FileExistsError(
                f"`{old[0]}` exists and comes from other sources or options: pass overwrite=True to replace it"
            )
        for path in self.folder.rglob("*.partial*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def checksum(path: Path) -> dict[str, Any]:
    """Return bytes and sha256 of a file; of a folder the number of files, and a sha256 over their names and hashes."""
    if not path.is_dir():
        return {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    files = sorted(p for p in path.rglob("*") if p.is_file())
    lines = (f"{p.relative_to(path).as_posix()} {checksum(p)['sha256']}\n" for p in files)
    return {"files": len(files), "sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}


def _read_json(path: Path) -> dict[str, Any]:
    """Return a report, or an empty one if there is none or it is damaged."""
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}
