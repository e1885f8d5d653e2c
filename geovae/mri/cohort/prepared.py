"""What `prepare` left in a folder, as the arrays that figures are made from."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geovae.mri.cohort.discover import Session
from geovae.mri.cohort.process import STEPS, process
from geovae.mri.cohort.state import load_state
from geovae.mri.volume import Volume


@dataclass(frozen=True, eq=False)
class Prepared:
    """The content of `OASIS.npz`, and of the files of the first sessions.

    Attributes:
        pictures: uint8 (n, h, w).
        ids: (n,) of sessions.
        age: (n,) years, NaN where unknown.
        cdr: (n,), NaN where not assessed.
        affines: (n, 4, 4), mm, of the planes.
        settings: of `prepare`.
        volumes: numbers and history by session id.
        before: counts (m, bins) of values in the files, of the first m sessions.
        edges: (m, bins + 1) of these, each in the volume's own unit.
        after: counts (m, bins) of values from 0 to 1.
        sessions: (m,) ids of the first m sessions.
        planes: for each of these the middle planes, uint8: `sagittal` (y, z), `coronal` (x, z), `axial` (x, y).
        grid_affines: (m, 4, 4), mm, of the volumes in RAS order.
        meetings: (m, 3), the voxel in which the three planes meet.
    """

    pictures: np.ndarray
    ids: np.ndarray
    age: np.ndarray
    cdr: np.ndarray
    affines: np.ndarray
    settings: dict[str, Any]
    volumes: dict[str, Any]
    before: np.ndarray
    edges: np.ndarray
    after: np.ndarray
    sessions: list[str]
    planes: list[dict[str, np.ndarray]]
    grid_affines: np.ndarray
    meetings: np.ndarray


def read_prepared(root: str | Path = "data_folders", *, limit: int = 48) -> Prepared:
    """Return what `prepare` wrote to `oasis` below `root`, with planes and histograms of at most `limit` sessions.

    Raises:
        FileNotFoundError: if nothing was prepared there.
    """
    folder = Path(root) / "oasis"
    if not (folder / "OASIS.npz").is_file():
        raise FileNotFoundError(f"no `{folder / 'OASIS.npz'}`: call geovae.mri.prepare first")
    with np.load(folder / "OASIS.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    sessions = list(dict.fromkeys(arrays["ids"].tolist()))[:limit]
    states = [load_state(folder / "subjects" / f"{id}.npz") for id in sessions]
    found = [state for state in states if state is not None]
    if len(found) < len(sessions):
        raise FileNotFoundError(f"files of `{folder / 'subjects'}` are missing: call geovae.mri.prepare again")
    planes = [{axis: state[f"plane_{axis}"] for axis in ("sagittal", "coronal", "axial")} for state in found]
    return Prepared(
        pictures=arrays["x_train"][..., 0],
        ids=arrays["ids"],
        age=arrays["age"],
        cdr=arrays["cdr"],
        affines=arrays["affines"],
        settings=json.loads(str(arrays["settings"])),
        volumes=json.loads(str(arrays["volumes"])),
        before=np.stack([state["before"] for state in found]),
        edges=np.stack([state["before_edges"] for state in found]),
        after=np.stack([state["after"] for state in found]),
        sessions=sessions,
        planes=planes,
        grid_affines=np.stack([state["grid_affine"] for state in found]),
        meetings=np.array([_middle(each) for each in planes]),
    )


def prepared_volume(root: str | Path, id: str) -> Volume:
    """Return the volume (x, y, z) in [0, 1] of a session, made again from its file as `prepare` made it.

    Raises:
        FileNotFoundError: if nothing was prepared below `root`, or the file is gone.
        ValueError: if no session `id` was prepared.
    """
    folder = Path(root) / "oasis"
    if not (folder / "manifest.csv").is_file():
        raise FileNotFoundError(f"no `{folder / 'manifest.csv'}`: call geovae.mri.prepare first")
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    if id not in rows:
        raise ValueError(
            f"no session {id!r} in `{folder / 'manifest.csv'}`: it holds {', '.join(sorted(rows)[:5])} ..."
        )
    row = rows[id]
    mask = Path(row["mask"]) if row["mask"] else None
    session = Session(id, row["subject"], int(row["visit"]), Path(row["file"]), row["product"], mask)
    settings = json.loads((folder / "prepare.json").read_text())["settings"]
    return process(session, **{name: settings[name] for name in STEPS}).volume


def _middle(planes: dict[str, np.ndarray]) -> list[int]:
    """Return the middle voxel (3,) of the volume that the planes are of."""
    shape = (*planes["axial"].shape, planes["coronal"].shape[1])
    return [round((n - 1) / 2) for n in shape]
