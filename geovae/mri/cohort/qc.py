"""Numbers that show a bad volume among many: how each resembles the cohort's mean, and the mean turned about.

Left-right cannot be told from the voxels of one brain; front-back and up-down can.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MIRRORS = {"left_right": 0, "front_back": 1, "up_down": 2}


def correlations(thumbs: np.ndarray) -> list[dict[str, float]]:
    """Return for each of the thumbs (n, x, y, z) its correlation with the mean of the others and the mean's mirrors."""
    values = thumbs.astype(np.float32)
    total = values.sum(axis=0)
    rows = []
    for thumb in values:
        mean = (total - thumb) / max(len(values) - 1, 1) if len(values) > 1 else thumb
        row = {"mean": _correlation(thumb, mean)}
        rows.append(row | {name: _correlation(thumb, np.flip(mean, axis)) for name, axis in MIRRORS.items()})
    return rows


def qc_rows(ids: Sequence[str], numbers: Sequence[Mapping[str, Any]], thumbs: np.ndarray) -> list[dict[str, Any]]:
    """Return one row a session for `qc_table.csv`.

    Args:
        ids: (n,) of sessions.
        numbers: as `process` gives them.
        thumbs: (n, x, y, z) uint8.

    Returns:
        Rows with percentiles (the file's unit), brain volume (ml), centre of mass (mm), voxels lost, correlations, and
        `suspect`: mirrored where a mirror image of the mean fits better front-back or up-down, else empty.
    """
    rows = []
    for id, known, fit in zip(ids, numbers, correlations(thumbs), strict=True):
        row = {"id": id, **{f"p{q}": known[f"p{q}"] for q in (1, 25, 50, 75, 99)}}
        row |= {"low": known["low"], "high": known["high"], "brain_ml": known["brain_ml"]}
        row |= dict(zip(("centre_x_mm", "centre_y_mm", "centre_z_mm"), known["centre_mm"], strict=True))
        row |= {"brain_voxels_lost": known["brain_voxels_lost"], "obliquity_degrees": known["obliquity_degrees"]}
        row |= {f"correlation_{name}": round(value, 4) for name, value in fit.items()}
        mirrored = [name for name in ("front_back", "up_down") if fit[name] > fit["mean"]]
        rows.append(row | {"suspect": " ".join(f"mirrored_{name}" for name in mirrored)})
    return rows


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm else 0.0
