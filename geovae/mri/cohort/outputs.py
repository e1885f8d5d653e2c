"""What `prepare` writes at the end, from the states of the finished sessions.

The table of quality control reveals bad volumes by their correlation with the mean of the cohort, and with the mirrored
mean. The voxels of one brain do not show which side is left; they do show front and back, and up and down.
"""

import csv
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from geovae.files import atomic_path
from geovae.mri.cohort.derivatives import write_description
from geovae.mri.cohort.discover import Session
from geovae.mri.cohort.flags import flag_rows
from geovae.mri.cohort.jobs import DERIVATIVES, Outcome, array_path, load_state, state_path
from geovae.mri.cohort.process import PERCENTAGES
from geovae.mri.cohort.rows import Row

QUALITY = ("sharpness", "contrast", "symmetry")
MIRRORS = {"left_right": 0, "front_back": 1, "up_down": 2}


class Finished(NamedTuple):
    """A session, its row of the table, and the outcome of its job."""

    session: Session
    row: Row
    outcome: Outcome


def write_outputs(folder: Path, finished: Sequence[Finished], settings: dict[str, Any]) -> dict[str, str]:
    """Write npz (with the `settings` of `prepare`), manifest and qc table, and return their paths by name."""
    ids = [f.session.id for f in finished]
    pictures = np.concatenate([_read_state(folder, id, "pictures") for id in ids])[..., None]
    thumbs = np.stack([_read_state(folder, id, "thumb") for id in ids])
    quality = qc_rows(ids, [f.outcome.numbers for f in finished], thumbs)
    manifest = [_manifest_row(f, folder, settings["arrays"], of_qc) for f, of_qc in zip(finished, quality, strict=True)]
    if settings["arrays"] == "nii.gz":
        write_description(folder / DERIVATIVES, "Prepared brains", "slices and volumes for generative models")
    files = {
        "npz": write_npz(folder / "OASIS.npz", {"x_train": pictures, **_arrays(finished, settings)}),
        "manifest": write_csv(folder / "manifest.csv", manifest),
        "qc_table": write_csv(folder / "qc_table.csv", quality),
    }
    return {name: str(path) for name, path in files.items()}


def write_npz(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Write arrays by name, without objects, not compressed; equal content gives equal bytes."""
    # By zipfile, because `numpy.savez` stores the time of writing.
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, values in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(values), allow_pickle=False)
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write dicts of the same keys as a table."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
    return path


def correlations(thumbs: np.ndarray) -> list[dict[str, float]]:
    """Return the correlation of each thumb of (n, x, y, z) with the mean of the others, and with the mirrored mean."""
    values = thumbs.astype(np.float32)
    total = values.sum(axis=0)
    rows = []
    for thumb in values:
        # the mean of the others: a thumb always resembles a mean that holds it
        mean = (total - thumb) / max(len(values) - 1, 1) if len(values) > 1 else thumb
        row = {"mean": _correlation(thumb, mean)}
        rows.append(row | {name: _correlation(thumb, np.flip(mean, axis)) for name, axis in MIRRORS.items()})
    return rows


def qc_rows(ids: Sequence[str], numbers: Sequence[Mapping[str, Any]], thumbs: np.ndarray) -> list[dict[str, Any]]:
    """Return one row for each of the sessions `ids` (n,), for `qc_table.csv`.

    With percentiles (in the file's unit), brain volume (ml), sharpness, contrast, symmetry, centre of mass (mm), voxels
    lost, correlations, and the flags of `flag_rows`. `numbers` (n,) are those of `Processed`, `thumbs` (n, x, y, z)
    uint8.
    """
    rows = []
    for id, of_session, fit in zip(ids, numbers, correlations(thumbs), strict=True):
        columns = (*(f"p{q}" for q in PERCENTAGES), "low", "high", "brain_ml", *QUALITY)
        row = {"id": id, **{name: of_session[name] for name in columns}}
        row |= dict(zip(("centre_x_mm", "centre_y_mm", "centre_z_mm"), of_session["centre_mm"], strict=True))
        row |= {name: of_session[name] for name in ("brain_voxels_lost", "obliquity_degrees")}
        row |= {f"correlation_{name}": round(value, 4) for name, value in fit.items()}
        rows.append(row)
    return flag_rows(rows)


def _arrays(finished: Sequence[Finished], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the arrays of the npz beside the images: one element a picture, and JSON."""

    def per_picture(values: Sequence[Any], dtype: type) -> np.ndarray:
        return np.repeat(np.asarray(values, dtype), [f.outcome.shape[0] for f in finished])

    rows, outcomes = [f.row for f in finished], [f.outcome for f in finished]
    return {
        "y_train": per_picture([row.label for row in rows], np.int64),
        "ids": per_picture([o.id for o in outcomes], str),
        "subjects": per_picture([f.session.subject for f in finished], str),
        "age": per_picture([row.age for row in rows], np.float32),
        "age_at_least": per_picture([row.at_least for row in rows], bool),
        "diagnosis": per_picture([row.diagnosis for row in rows], str),
        "sex": per_picture([row.sex for row in rows], str),
        "cdr": per_picture([row.cdr for row in rows], np.float32),
        "affines": np.concatenate([o.affines for o in outcomes]),
        "slice_mm": np.concatenate([o.slice_mm for o in outcomes]),
        "settings": json.dumps(settings),
        "volumes": json.dumps({o.id: o.numbers for o in outcomes}),
    }


def _manifest_row(finished: Finished, folder: Path, arrays: Any, quality: Mapping[str, Any]) -> dict[str, Any]:
    session, row, outcome = finished
    cells: dict[str, Any] = {"id": session.id, "subject": session.subject, "visit": session.visit}
    cells |= {"label": row.label, "cdr": "" if math.isnan(row.cdr) else row.cdr, "diagnosis": row.diagnosis}
    cells |= {"age": row.age_text, "sex": row.sex, "product": session.product}
    cells |= {
        "file": str(session.path),
        "mask": str(session.mask or ""),
        "mask_rule": outcome.numbers["mask_rule"],
        "digest": outcome.digest,
    }
    cells |= {"slices": outcome.shape[0], "slice_mm": " ".join(f"{mm:g}" for mm in outcome.slice_mm)}
    cells |= {name: outcome.numbers[name] for name in ("low", "high", "brain_ml", "brain_voxels_lost")}
    cells |= {name: quality[name] for name in (*QUALITY, "robust_distance", "flags")}
    cells["array"] = str(array_path(folder, session, arrays) or "")
    return cells | {"history": json.dumps(outcome.numbers["history"])}


def _read_state(folder: Path, id: str, name: str) -> np.ndarray:
    """Return one array of the state of a finished session."""
    state = load_state(state_path(folder, id), names=[name])
    if state is None:
        raise ValueError(f"`{state_path(folder, id)}` was removed or changed meanwhile: call prepare again")
    return np.asarray(state[name])


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm else 0.0
