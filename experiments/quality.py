"""Figures of a cohort of brains after `prepare`: who is in it, how the volumes lie, what was done to their values."""

import csv
import io
from pathlib import Path

import numpy as np

from experiments.tables import as_csv
from geovae.figures import mri as figures
from geovae.mri import Volume, edge_letters, prepared_volume, read_archive, read_states, resample
from geovae.mri.steps.slices import View
from geovae.tracking import Tracker

ORTHOGONAL = 4  # sessions with a figure of all three planes
VIEWER_MM = 2.0  # voxels of the viewer, which keep its page below 1 MB


def track_quality(
    tracker: Tracker, root: str | Path, *, shown: int = 48, masked_ids: bool = False, view: View = "neurological"
) -> None:
    """Track quality figures of what `geovae.mri.prepare` wrote below `root`, as artifacts in `qc/`, each below 1 MB.

    Args:
        tracker: gets the figures.
        root: folder of all data sets.
        shown: number of sessions shown at most: on a shared server, showing may count as redistribution.
        masked_ids: show running numbers in place of ids, and leave out the tables that name files.
        view: of the orthogonal views; pictures are shown as they are stored, with the sides printed.
    """
    arrays = read_archive(root)
    sessions = list(dict.fromkeys(arrays["ids"].tolist()))[:shown]
    states = read_states(root, sessions)
    sides = edge_letters(arrays["settings"]["axis"], arrays["settings"]["view"])
    names = {id: f"#{i + 1}" if masked_ids else id for i, id in enumerate(sessions)}
    rows = _middle_rows(arrays["ids"])
    pictures, cdr, ages = (arrays[name][rows] for name in ("x_train", "cdr", "age"))
    labels = list(names.values())
    mosaic = figures.cohort_mosaic(pictures[..., 0], labels, cdr=cdr, ages=ages, limit=shown, sides=sides)
    tracker.figure("qc/mosaic.png", mosaic)
    tracker.figure("qc/mean_and_sd.png", figures.mean_and_sd(arrays["x_train"][..., 0], sides=sides))
    histograms = (np.stack([state[name] for state in states]) for name in ("before", "before_edges", "after"))
    tracker.figure("qc/histograms.png", figures.histograms(*histograms))
    for i, (id, state) in enumerate(zip(sessions[:ORTHOGONAL], states, strict=False)):
        planes = {axis: state[f"plane_{axis}"] for axis in figures.PLANES}
        views = figures.orthogonal_views(planes, state["grid_affine"], view=view, title=names[id])
        tracker.figure(f"qc/orthogonal_{i + 1}.png", views)
    tracker.text("qc/viewer.html", viewer_page(prepared_volume(root, sessions[0]), names[sessions[0]]))
    tracker.text("qc/qc_table.csv", _qc_table(Path(root) / "oasis" / "qc_table.csv", names, masked_ids))
    if not masked_ids:
        tracker.artifact(Path(root) / "oasis" / "manifest.csv", "qc")
        tracker.artifact(Path(root) / "oasis" / "prepare.json", "qc")


def viewer_page(volume: Volume, title: str) -> str:
    """Return a page in which the planes of a volume can be moved, with voxels of 2 mm or the volume's own if larger."""
    small = resample(volume, max(VIEWER_MM, float(volume.spacing.max())))
    return figures.viewer_html(small.data, small.affine, title=title)


def _middle_rows(ids: np.ndarray) -> list[int]:
    """Return one row for each session (n,): its middle slice."""
    return [int(rows[len(rows) // 2]) for rows in (np.flatnonzero(ids == id) for id in dict.fromkeys(ids.tolist()))]


def _qc_table(path: Path, names: dict[str, str], masked_ids: bool) -> str:
    """Return the table of numbers; with masked ids only the sessions shown, by their running numbers."""
    text = path.read_text(encoding="utf-8")
    if not masked_ids:
        return text
    head, *rows = csv.reader(io.StringIO(text))
    return as_csv(head, [[names[id], *cells] for id, *cells in rows if id in names])
