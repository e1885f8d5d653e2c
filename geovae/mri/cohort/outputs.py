"""What `prepare` writes at the end, from the files of the finished sessions, one of them in memory at a time."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geovae.mri.cohort.discover import Session
from geovae.mri.cohort.export import write_csv, write_npz
from geovae.mri.cohort.jobs import array_path, finished, state_path
from geovae.mri.cohort.qc import qc_rows
from geovae.mri.cohort.table import Row

Pair = tuple[Session, Row]


def write_outputs(
    folder: Path,
    pairs: Sequence[Pair],
    small: Sequence[dict[str, Any]],
    split: np.ndarray,
    settings: dict[str, Any],
) -> dict[str, str]:
    """Write npz, manifest and qc table, and return their paths by name.

    Args:
        folder: of the data set.
        pairs: the sessions with their rows, in order.
        small: of each its summary, see `geovae.mri.cohort.jobs.summary`; pixels are read from its file.
        split: (n,), the part of each session.
        settings: of `prepare`.
    """
    each = [s["rows"] for s in small]
    h, w = small[0]["shape"][1:]
    per_row: dict[str, Any] = {
        "y_train": np.repeat([row.label for _, row in pairs], each).astype(np.int64),
        "ids": np.repeat([s.id for s, _ in pairs], each),
        "subjects": np.repeat([s.subject for s, _ in pairs], each),
        "split": np.repeat(split, each),
        "age": np.repeat([row.age for _, row in pairs], each).astype(np.float32),
        "sex": np.repeat([row.sex for _, row in pairs], each).astype(str),
        "cdr": np.repeat([row.cdr for _, row in pairs], each).astype(np.float32),
        "affines": np.concatenate([s["affines"] for s in small]),
        "slice_mm": np.concatenate([s["slice_mm"] for s in small]),
        "settings": json.dumps(settings),
        "volumes": json.dumps({s.id: known["numbers"] for (s, _), known in zip(pairs, small, strict=True)}),
    }
    images = (finished(folder, session, "pictures") for session, _ in pairs)
    npz = write_npz(folder / "OASIS.npz", images, (sum(each), h, w), per_row)
    manifest = [
        _manifest_row(session, row, str(part), known, folder, settings["arrays"])
        for (session, row), part, known in zip(pairs, split, small, strict=True)
    ]
    thumbs = np.stack([finished(folder, session, "thumb") for session, _ in pairs])
    table = qc_rows([s.id for s, _ in pairs], [s["numbers"] for s in small], thumbs)
    files = {"npz": npz, "manifest": write_csv(folder / "manifest.csv", manifest)}
    files["qc_table"] = write_csv(folder / "qc_table.csv", table)
    return {name: str(path) for name, path in files.items()}


def _manifest_row(
    session: Session, row: Row, split: str, known: dict[str, Any], folder: Path, arrays: str
) -> dict[str, Any]:
    out = {"id": session.id, "subject": session.subject, "visit": session.visit, "split": split, "label": row.label}
    out |= {"cdr": "" if np.isnan(row.cdr) else row.cdr, "age": "" if np.isnan(row.age) else row.age, "sex": row.sex}
    out |= {"product": session.product, "file": str(session.path), "mask": str(session.mask or "")}
    out |= {"digest": known["digest"], "slices": known["rows"]}
    out |= {"slice_mm": " ".join(f"{mm:g}" for mm in known["slice_mm"])}
    out |= {name: known["numbers"][name] for name in ("low", "high", "brain_ml", "brain_voxels_lost")}
    array = "" if arrays == "none" else str(array_path(state_path(folder, session), arrays))
    return out | {"array": array, "history": json.dumps(known["numbers"]["history"])}
