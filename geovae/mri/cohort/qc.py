"""Numbers that reveal a bad volume: its correlation with the mean of the cohort, and with the mirrored mean.

The voxels of one brain do not show which side is left; they do show front and back, and up and down.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geovae.mri.cohort.process import PERCENTAGES

MIRRORS = {"left_right": 0, "front_back": 1, "up_down": 2}


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
    """Return one row a session for `qc_table.csv`.

    Args:
        ids: (n,) of sessions.
        numbers: of `Processed`, one for each session.
        thumbs: (n, x, y, z) uint8.

    Returns:
        Rows with percentiles (in the file's unit), brain volume (ml), centre of mass (mm), voxels lost, correlations,
        and `suspect`: the axes along which the mirrored mean fits better, else empty.
    """
    rows = []
    for id, of_session, fit in zip(ids, numbers, correlations(thumbs), strict=True):
        row = {"id": id, **{f"p{q}": of_session[f"p{q}"] for q in PERCENTAGES}}
        row |= {"low": of_session["low"], "high": of_session["high"], "brain_ml": of_session["brain_ml"]}
        row |= dict(zip(("centre_x_mm", "centre_y_mm", "centre_z_mm"), of_session["centre_mm"], strict=True))
        row |= {
            "brain_voxels_lost": of_session["brain_voxels_lost"],
            "obliquity_degrees": of_session["obliquity_degrees"],
        }
        row |= {f"correlation_{name}": round(value, 4) for name, value in fit.items()}
        mirrored = [name for name in ("front_back", "up_down") if fit[name] > fit["mean"]]
        rows.append(row | {"suspect": " ".join(f"mirrored_{name}" for name in mirrored)})
    return rows


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm else 0.0
