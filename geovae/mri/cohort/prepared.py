"""What `prepare` left in a folder: the npz, the manifest, the states, and a volume made again from its file."""

import csv
import json
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from geovae.mri.cohort.discover import Session
from geovae.mri.cohort.jobs import load_state, state_path
from geovae.mri.cohort.process import Steps, process
from geovae.mri.volume import Volume

WRITTEN = ("x_train", "ids", "age", "cdr", "affines", "settings", "volumes")


@dataclass(frozen=True, eq=False)
class Prepared:
    """The content of `OASIS.npz`, and of the states of the first sessions.

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


def read_archive(root: str | Path = "data_folders") -> dict[str, Any]:
    """Return the arrays of `oasis/OASIS.npz` below `root`, by name, with `settings` and `volumes` as dicts.

    Raises:
        FileNotFoundError: if nothing was prepared there.
        ValueError: if another program wrote the file, or it is damaged.
    """
    path = _find(root, "OASIS.npz")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"`{path}` is not a sound npz archive: {error}") from error
    missing = [name for name in WRITTEN if name not in arrays]
    if missing:
        raise ValueError(f"`{path}` has no {', '.join(missing)}: it was not written by geovae.mri.prepare")
    return arrays | {name: json.loads(str(arrays[name])) for name in ("settings", "volumes")}


def read_manifest(root: str | Path = "data_folders") -> list[dict[str, str]]:
    """Return the rows of `oasis/manifest.csv` below `root`, one a session.

    Raises:
        FileNotFoundError: if nothing was prepared there.
    """
    with _find(root, "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_prepared(root: str | Path = "data_folders", *, limit: int = 48) -> Prepared:
    """Return what `prepare` wrote to `oasis` below `root`, with planes and histograms of at most `limit` sessions.

    Raises:
        FileNotFoundError: if nothing was prepared there, or states are missing.
    """
    arrays = read_archive(root)
    folder = Path(root) / "oasis"
    sessions = list(dict.fromkeys(arrays["ids"].tolist()))[:limit]
    states = [state for id in sessions if (state := load_state(state_path(folder, id))) is not None]
    if len(states) < len(sessions):
        raise FileNotFoundError(f"files of `{folder / 'subjects'}` are missing: call geovae.mri.prepare again")
    planes = [{axis: state[f"plane_{axis}"] for axis in ("sagittal", "coronal", "axial")} for state in states]
    return Prepared(
        pictures=arrays["x_train"][..., 0],
        **{name: arrays[name] for name in WRITTEN[1:]},
        before=np.stack([state["before"] for state in states]),
        edges=np.stack([state["before_edges"] for state in states]),
        after=np.stack([state["after"] for state in states]),
        sessions=sessions,
        planes=planes,
        grid_affines=np.stack([state["grid_affine"] for state in states]),
        meetings=np.array([_middle(each) for each in planes]),
    )


def prepared_volume(root: str | Path, id: str) -> Volume:
    """Return the volume (x, y, z) in [0, 1] of a session, made again from its file with the recorded steps.

    Raises:
        FileNotFoundError: if nothing was prepared below `root`, or the file is gone.
        ValueError: if no session `id` was prepared.
    """
    rows = {row["id"]: row for row in read_manifest(root)}
    if id not in rows:
        path = Path(root) / "oasis" / "manifest.csv"
        raise ValueError(f"no session {id!r} in `{path}`: it holds {', '.join(sorted(rows)[:5])} ...")
    row = rows[id]
    mask = Path(row["mask"]) if row["mask"] else None
    session = Session(id, row["subject"], int(row["visit"]), Path(row["file"]), row["product"], mask)
    settings = json.loads(_find(root, "prepare.json").read_text())["settings"]
    return process(session, Steps(**{field.name: settings[field.name] for field in fields(Steps)})).volume


def _find(root: str | Path, name: str) -> Path:
    path = Path(root) / "oasis" / name
    if not path.is_file():
        raise FileNotFoundError(f"no `{path}`: call geovae.mri.prepare first")
    return path


def _middle(planes: dict[str, np.ndarray]) -> list[int]:
    """Return the middle voxel (3,) of the volume of the planes."""
    shape = (*planes["axial"].shape, planes["coronal"].shape[1])
    return [round((n - 1) / 2) for n in shape]
