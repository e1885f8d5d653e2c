"""Quality control of a cohort of brains after `prepare`: figures, tables, and one page that holds all in order."""

import csv
import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import geovae
from experiments.page import Part, Picture, write_page
from experiments.tables import Cell, as_csv, as_markdown, escape
from geovae.figures import mri as figures
from geovae.figures.directions import PLANES, convention, directions_of_slices
from geovae.mri import Volume, prepared_volume, read_archive, read_manifest, read_states, resample
from geovae.mri.cohort.flags import LIMIT, MEANINGS
from geovae.mri.cohort.outputs import QUALITY
from geovae.mri.steps.slices import View
from geovae.tracking import Tracker

DETAILED = 8  # sessions with a figure of all three planes, the flagged ones first
MOST_REMARKS = 50
VIEWER_MM = 2.0  # voxels of the viewer, which keep its page below 1 MB
NUMBERS = {"brain_ml": "mask, ml"} | {name: name for name in QUALITY}
SOURCES = {
    "sform": "the header's sform",
    "qform": "the header's qform",
    "table": "the table of OASIS-1's products: their headers say nothing",
    "guess": "a guess (LAS): the header says nothing, **check the sides**",
    "identity": "the option affine=identity: taken as right, front and top",
}


@dataclass(frozen=True, eq=False)
class Quality:
    """What is shown of the cohort below `root`: at most `shown` sessions, the flagged ones among them."""

    root: Path
    shown: int = 48
    masked_ids: bool = False
    view: View = "neurological"

    @cached_property
    def arrays(self) -> dict[str, Any]:
        """Of the npz."""
        return read_archive(self.root)

    @cached_property
    def table(self) -> list[dict[str, str]]:
        """The manifest, in the order of the npz."""
        return read_manifest(self.root)

    @cached_property
    def names(self) -> dict[str, str]:
        """The names of the sessions that are shown, by id."""
        by_need = sorted(self.table, key=lambda row: not row["flags"])[: self.shown]
        chosen = {row["id"] for row in by_need}
        ids = [row["id"] for row in self.table if row["id"] in chosen]
        return {id: f"#{i + 1}" if self.masked_ids else id for i, id in enumerate(ids)}

    @property
    def settings(self) -> dict[str, Any]:
        """Of `geovae.mri.prepare`."""
        return dict(self.arrays["settings"])

    @property
    def flagged(self) -> list[dict[str, str]]:
        """The rows of the flagged sessions that are shown."""
        return [row for row in self.table if row["flags"] and row["id"] in self.names]


def track_quality(
    tracker: Tracker, root: str | Path, *, shown: int = 48, masked_ids: bool = False, view: View = "neurological"
) -> None:
    """Track quality control of what `geovae.mri.prepare` wrote below `root`, in `qc/`: `report.html` holds all of it.

    Args:
        tracker: gets page, figures and tables.
        root: folder of all data sets.
        shown: number of sessions shown at most: on a shared server, showing may count as redistribution.
        masked_ids: show running numbers in place of ids, and leave out the tables that name files.
        view: of the orthogonal views; pictures are shown as they are stored, with the sides printed.
    """
    quality = Quality(Path(root), shown, masked_ids, view)
    parts = list(_parts(quality))
    for part in parts:
        if isinstance(part, Picture):
            tracker.figure(f"qc/{part.name}.png", part.figure)
    with tempfile.TemporaryDirectory() as folder:
        write_page("Quality control of brain volumes", parts, Path(folder))
        tracker.text("qc/report.html", (Path(folder) / "report.html").read_text(encoding="utf-8"))
    first = next(iter(quality.names))
    tracker.text("qc/viewer.html", viewer_page(prepared_volume(root, first), quality.names[first]))
    tracker.text("qc/qc_table.csv", _qc_table(Path(root) / "oasis" / "qc_table.csv", quality.names, masked_ids))
    if not masked_ids:
        tracker.artifact(Path(root) / "oasis" / "manifest.csv", "qc")
        tracker.artifact(Path(root) / "oasis" / "prepare.json", "qc")


def viewer_page(volume: Volume, title: str) -> str:
    """Return a page in which the planes of a volume can be moved, with voxels of 2 mm or the volume's own if larger."""
    small = resample(volume, max(VIEWER_MM, float(volume.spacing.max())))
    return figures.viewer_html(small.data, small.affine, title=title)


def _parts(quality: Quality) -> Iterator[Part]:
    """Yield the parts of the page: what to know first, whom to look at, the cohort, the sessions, what was done."""
    yield f"# Quality control of {len(quality.table)} brain volumes"
    yield _summary(quality)
    yield f"## Whom to look at\n\n{_flag_table(quality)}"
    yield f"## Left out\n\n{_left_out(quality)}"
    yield f"## Problems and remarks\n\n{_remarks(quality)}"
    yield "## The cohort"
    yield from _cohort_pictures(quality)
    yield (
        "## Sessions\n\nThe flagged ones first. The outline is the brain mask; the lines are where the other planes "
        "lie. `qc/viewer.html` shows a whole volume, in which the planes can be moved."
    )
    yield from _session_pictures(quality)
    yield f"## What was done\n\n{_methods(quality)}"
    rows: list[list[Cell]] = [[name, str(value)] for name, value in quality.settings.items() if name != "excluded"]
    yield f"## Settings\n\n{as_markdown(['option', 'value'], rows)}"


def _summary(quality: Quality) -> str:
    """Return the counts, the convention of the pictures, and what left and right rest on."""
    volumes = quality.arrays["volumes"].values()
    sources = Counter(next(s["affine"] for s in v["history"] if s["step"] == "read") for v in volumes)
    known = "; ".join(f"{n} from {SOURCES.get(source, source)}" for source, n in sources.most_common())
    rows: list[list[Cell]] = [
        ["subjects", len({row["subject"] for row in quality.table})],
        ["sessions", len(quality.table)],
        ["slices", len(quality.arrays["ids"])],
        ["sessions with a flag", sum(bool(row["flags"]) for row in quality.table)],
        ["left out by exclude=FILE", len(quality.settings.get("excluded", {}))],
    ]
    stored = quality.settings["axis"], quality.settings["view"]
    return (
        f"{as_markdown(['', 'number'], rows)}\n**Sides.** Left and right of the volumes: {known}. Slices are "
        f"{convention(*stored)}. The planes of single sessions are {convention('axial', quality.view)}. The letters L "
        "and R in the pictures are the patient's. Voxels do not show which side is left: compare one subject with a "
        "known asymmetry, or a fiducial, with its source."
    )


def _flag_table(quality: Quality) -> str:
    """Return the flagged sessions with their numbers, and the meanings of the flags."""
    total = sum(bool(row["flags"]) for row in quality.table)
    if not total:
        return "No session has a flag."
    head = ["session", "flags", *NUMBERS.values(), "robust distance"]
    rows: list[list[Cell]] = [
        [quality.names[row["id"]], row["flags"].replace(" ", ", "), *_numbers(row)] for row in quality.flagged
    ]
    middle = [float(np.median([float(row[name]) for row in quality.table])) for name in NUMBERS]
    rows.append(["median of all", "", *middle, None])
    used = [flag for flag in MEANINGS if any(flag in row["flags"].split() for row in quality.flagged)]
    terms = "\n".join(f"* *{flag}*: {MEANINGS[flag]}." for flag in used)
    more = f"\n{total - len(quality.flagged)} more are not shown.\n" if total > len(quality.flagged) else ""
    return (
        f"{as_markdown(head, rows)}{more}\n{terms}\n\nA flag says that a number lies more than {LIMIT} robust standard "
        "deviations from the cohort's median, or all of them far away together. It is no verdict: nothing was left out "
        "because of it. To leave sessions out, list `id` and `reason` in a csv and prepare again with `exclude=FILE`."
    )


def _numbers(row: dict[str, str]) -> list[Cell]:
    return [float(row[name]) if row[name] else None for name in (*NUMBERS, "robust_distance")]


def _left_out(quality: Quality) -> str:
    """Return the excluded ids with their reasons."""
    excluded = quality.settings.get("excluded", {})
    if not excluded:
        return "Nobody was excluded."
    if quality.masked_ids:  # a reason may name somebody too
        return f"{len(excluded)} were excluded by name; ids and reasons are in the npz."
    return as_markdown(["session or subject", "reason"], [[id, reason] for id, reason in excluded.items()])


def _remarks(quality: Quality) -> str:
    """Return what `prepare` found wrong or worth knowing."""
    report = json.loads((quality.root / "oasis" / "prepare.json").read_text(encoding="utf-8"))
    remarks = [*report["problems"], *report["warnings"]]
    if not remarks:
        return "None."
    if quality.masked_ids:
        return f"{len(remarks)}; they name sessions, and are in `prepare.json` beside the data."
    more = [f"and {len(remarks) - MOST_REMARKS} more in `prepare.json`"] if len(remarks) > MOST_REMARKS else []
    return "\n".join(f"* {line}" for line in [*map(escape, remarks[:MOST_REMARKS]), *more])


def _cohort_pictures(quality: Quality) -> Iterator[Picture]:
    arrays, names = quality.arrays, quality.names
    directions = directions_of_slices(quality.settings["axis"], quality.settings["view"], arrays["slice_mm"].tolist())
    rows_of = [np.flatnonzero(arrays["ids"] == id) for id in names]
    rows = [int(rows[len(rows) // 2]) for rows in rows_of]  # the middle slice of each session
    pictures, cdr, ages = (arrays[name][rows] for name in ("x_train", "cdr", "age"))
    bounds = arrays.get("age_at_least", np.zeros(len(arrays["age"]), bool))[rows]  # earlier versions wrote none
    mosaic = figures.cohort_mosaic(
        pictures[..., 0], list(names.values()), directions, cdr=cdr, ages=ages, at_least=bounds
    )
    yield Picture("mosaic", f"{len(names)} of {len(quality.table)} sessions; CDR -: none in the table", mosaic)
    mean = figures.mean_and_sd(arrays["x_train"][..., 0], directions)
    yield Picture("mean_and_sd", "All slices: a volume that lies another way shows as a ghost in both", mean)
    states = read_states(quality.root, list(names))
    histograms = (np.stack([state[name] for state in states]) for name in ("before", "before_edges", "after"))
    yield Picture(
        "histograms", "Grey of every fourth voxel, one line for each session", figures.histograms(*histograms)
    )


def _session_pictures(quality: Quality) -> Iterator[Picture]:
    rows = [row for row in quality.table if row["id"] in quality.names]
    rows = sorted(rows, key=lambda row: not row["flags"])[:DETAILED]
    for i, (row, state) in enumerate(zip(rows, read_states(quality.root, [row["id"] for row in rows]), strict=True)):
        planes, masks = ({axis: state[f"{kind}_{axis}"] for axis in PLANES} for kind in ("plane", "mask"))
        name = quality.names[row["id"]]
        figure = figures.orthogonal_views(planes, state["grid_affine"], masks=masks, view=quality.view, title=name)
        numbers = f"mask {float(row['brain_ml']):.0f} ml, " + ", ".join(f"{key} {row[key]}" for key in QUALITY)
        flags = row["flags"].replace(" ", ", ") or "none"
        yield Picture(f"orthogonal_{i + 1}", f"{name}: {numbers}; flags: {flags}", figure)


def _methods(quality: Quality) -> str:
    """Return what was done, in sentences."""
    s = quality.settings
    steps = [f"geovae {geovae.__version__} turned the volumes into RAS order"]
    steps.append(f"resampled them to voxels of {s['spacing']:g} mm (linear)" if s["spacing"] else "kept their voxels")
    low, high = s["percentiles"]
    steps.append(f"mapped the percentiles {low:g} and {high:g} inside the brain mask (mask={s['mask']}) to 0 and 1")
    steps.append(
        f"cropped or padded them to {' x '.join(map(str, s['shape']))} voxels" if s["shape"] else "kept the grids"
    )
    where = ", ".join(f"{at:g}" for at in s["at"])
    return escape("; ".join(steps)) + (
        f"; then it cut {s['axis']} planes at {where} ({s['unit']}), {s['view']}, as 8-bit pictures. *Sharpness* is "
        "the rms of the Laplacian over the standard deviation of the grey, *contrast* the share of the grey's variance "
        "that two classes explain (Otsu), *symmetry* the correlation of the planes with their mirror image; all three "
        "inside the mask, on the middle planes. Each step of each volume is in `manifest.csv`, column `history`."
    )


def _qc_table(path: Path, names: dict[str, str], masked_ids: bool) -> str:
    """Return the table of numbers; with masked ids only the sessions shown, by their running numbers."""
    text = path.read_text(encoding="utf-8")
    if not masked_ids:
        return text
    head, *rows = csv.reader(io.StringIO(text))
    return as_csv(head, [[names[id], *cells] for id, *cells in rows if id in names])
