"""What is shown of a cohort of brains after `prepare`: who is in it, how they lie, what was done to their values."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from geovae.figures import mri as figures
from geovae.mri import edge_letters, prepared_volume, read_prepared
from geovae.mri.steps.slices import View
from geovae.tracking import Tracker

ORTHOGONAL = 4  # sessions of which all three planes are shown


def track_quality(
    tracker: Tracker, root: str | Path, *, shown: int = 48, masked_ids: bool = False, view: View = "neurological"
) -> None:
    """Track quality figures of what `geovae.mri.prepare` wrote below `root`, as artifacts in `qc/`, each below 1 MB.

    Args:
        tracker: where to.
        root: folder of all data sets.
        shown: sessions shown at most: on a shared server, showing may count as passing the data on.
        masked_ids: show running numbers in place of ids, and leave out the tables that name files.
        view: of the orthogonal views; pictures are shown as they are stored, with the sides printed.
    """
    known = read_prepared(root, limit=shown)
    sides = edge_letters(known.settings["axis"], known.settings["view"])
    names = {id: f"#{i + 1}" if masked_ids else id for i, id in enumerate(known.sessions)}
    rows = _middle_rows(known.ids)
    mosaic = figures.cohort_mosaic(
        known.pictures[rows],
        known.ids[rows].tolist(),
        cdr=known.cdr[rows].tolist(),
        ages=known.age[rows].tolist(),
        limit=shown,
        masked_ids=masked_ids,
        sides=sides,
    )
    tracker.figure("qc/mosaic.png", mosaic)
    tracker.figure("qc/mean_and_sd.png", figures.mean_and_sd(known.pictures, sides=sides))
    tracker.figure("qc/histograms.png", figures.histograms(known.before, known.edges, known.after))
    for i, id in enumerate(known.sessions[:ORTHOGONAL]):
        planes = figures.orthogonal_views(
            known.planes[i], known.grid_affines[i], known.meetings[i].tolist(), view=view, title=names[id]
        )
        tracker.figure(f"qc/orthogonal_{i + 1}.png", planes)
    first = known.sessions[0]
    volume = prepared_volume(root, first)
    tracker.text("qc/viewer.html", figures.viewer_html(volume.data, volume.affine, title=names[first]))
    tracker.text("qc/qc_table.csv", _qc_table(Path(root) / "oasis" / "qc_table.csv", names, masked_ids))
    if not masked_ids:
        tracker.artifact(Path(root) / "oasis" / "manifest.csv", "qc")
        tracker.artifact(Path(root) / "oasis" / "prepare.json", "qc")


def _middle_rows(ids: np.ndarray) -> list[int]:
    """Return one row for each session (n,): its middle slice."""
    return [int(rows[len(rows) // 2]) for rows in (np.flatnonzero(ids == id) for id in dict.fromkeys(ids.tolist()))]


def _qc_table(path: Path, names: dict[str, str], masked_ids: bool) -> str:
    """Return the table of numbers; with masked ids only the sessions shown, by their running numbers."""
    if not masked_ids:
        return path.read_text(encoding="utf-8")
    with path.open(newline="", encoding="utf-8") as file:
        rows: list[list[Any]] = list(csv.reader(file))
    kept = [rows[0], *([names[row[0]], *row[1:]] for row in rows[1:] if row[0] in names)]
    return "".join(",".join(row) + "\n" for row in kept)
