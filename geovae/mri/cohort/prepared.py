"""What `prepare` left in a folder: the npz, the manifest, the states, and a volume made again from its file."""

import csv
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from geovae.files import read_npz
from geovae.mri.cohort.discover import Session
from geovae.mri.cohort.jobs import load_state, state_path
from geovae.mri.cohort.process import Steps, process
from geovae.mri.volume import Volume

WRITTEN = ("x_train", "ids", "age", "cdr", "affines", "slice_mm", "settings", "volumes")


def read_archive(root: str | Path = "data_folders") -> dict[str, Any]:
    """Return the arrays of `oasis/OASIS.npz` below `root`, by name, with `settings` and `volumes` as dicts.

    Raises:
        FileNotFoundError: if nothing was prepared there.
        ValueError: if another program wrote the file, or it is damaged.
    """
    path = _find(root, "OASIS.npz")
    arrays: dict[str, Any] = read_npz(path)
    missing = [name for name in WRITTEN if name not in arrays]
    if missing:
        raise ValueError(f"`{path}` has no {', '.join(missing)}: it was not written by geovae.mri.prepare")
    try:
        return arrays | {name: json.loads(str(arrays[name])) for name in ("settings", "volumes")}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`{path}` is damaged: its `settings` or `volumes` are not JSON") from error


def read_manifest(root: str | Path = "data_folders") -> list[dict[str, str]]:
    """Return the rows of `oasis/manifest.csv` below `root`, one a session.

    Raises:
        FileNotFoundError: if nothing was prepared there.
    """
    with _find(root, "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_states(root: str | Path, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the arrays of the states of sessions by id, see `save_state`.

    Raises:
        FileNotFoundError: if states are missing.
    """
    folder = Path(root) / "oasis"
    states = [state for id in ids if (state := load_state(state_path(folder, id))) is not None]
    if len(states) < len(ids):
        raise FileNotFoundError(f"files of `{folder / 'subjects'}` are missing: call geovae.mri.prepare again")
    return states


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
    return process(session, Steps(**{f.name: settings[f.name] for f in fields(Steps) if f.name in settings})).volume


def _find(root: str | Path, name: str) -> Path:
    path = Path(root) / "oasis" / name
    if not path.is_file():
        raise FileNotFoundError(f"no `{path}`: call geovae.mri.prepare first")
    return path
