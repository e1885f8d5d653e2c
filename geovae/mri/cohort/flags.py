"""Which sessions of a cohort a person should look at: flags by robust distances from the cohort. Nothing is left out.

A number is flagged if its modified z-score (Iglewicz & Hoaglin 1993, with the median and the median absolute deviation)
exceeds 3.5; all numbers together if the Mahalanobis distance of these scores, with the correlations of the ranks,
exceeds what the furthest session of a normal cohort reaches in one of a hundred.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geovae.mri.steps.mask import check_millilitres

LIMIT = 3.5  # of the modified z-score
FEWEST = 10  # sessions for a z-score
FEWEST_JOINT = 50  # sessions for the distance of all numbers together
RARE = 0.01  # share of normal cohorts in which a session is flagged as `outlier`
LEAST_VARIANCE = 0.1  # along a direction of the scores: numbers that nearly repeat one another do not count twice
# column of the table of quality control: flags where it is far below, and far above, the others
SIDES: dict[str, tuple[str, str]] = {
    "brain_ml": ("small_mask", "large_mask"),
    "sharpness": ("blurred", "noisy"),
    "contrast": ("low_contrast", ""),
    "symmetry": ("asymmetric", ""),
    "correlation_mean": ("unlike_the_others", ""),
}
MEANINGS = {
    "implausible_mask": "the brain mask holds less or more than a human brain: part is missing, or skull is in it",
    "small_mask": "the brain mask is much smaller than the others: part of the brain is missing",
    "large_mask": "the brain mask is much larger than the others: skull, neck or air is in it",
    "blurred": "less sharp than the others: motion, or another resolution",
    "noisy": "much stronger edges than the others: noise, ghosts of motion, or resampling",
    "low_contrast": "the tissues are hard to tell apart: another sequence, contrast agent, or a bias field",
    "asymmetric": "left and right differ more than in the others: a lesion, a tilted head, or a bad mask",
    "unlike_the_others": "hardly resembles the mean of the others: not in their space, or not a head",
    "mirrored_front_back": "resembles the mean of the others better with front and back exchanged",
    "mirrored_up_down": "resembles the mean of the others better upside down",
    "outlier": "its numbers are plausible one by one, but not together",
}
CORRELATIONS = ("symmetry", "correlation_mean")  # compared by Fisher's z, because they are bounded by 1


def flag_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a table of quality control with `robust_distance` (empty for few sessions) and `flags`."""
    scores = {name: modified_z(_comparable(name, rows)) for name in SIDES}
    distances = _joint_distances(np.stack(list(scores.values()), axis=1))
    flagged = []
    for i, row in enumerate(rows):
        flags = [name for name in ("mirrored_front_back", "mirrored_up_down") if _is_mirrored(row, name)]
        flags += ["implausible_mask"] * bool(check_millilitres(float(row["brain_ml"])))
        for name, (low, high) in SIDES.items():
            score = scores[name][i]
            flags += [flag for flag, above in ((low, -score), (high, score)) if flag and above > LIMIT]
        if not flags and distances is not None and distances[i] > joint_limit(len(rows)):
            flags.append("outlier")
        distance = "" if distances is None else round(float(distances[i]), 3)
        flagged.append({**row, "robust_distance": distance, "flags": " ".join(flags)})
    return flagged


def joint_limit(n: int) -> float:
    """Return the robust distance above which one of `n` sessions is an outlier."""
    from scipy.stats import chi2

    return math.sqrt(float(chi2.isf(RARE / n, len(SIDES))))


def _is_mirrored(row: Mapping[str, Any], flag: str) -> bool:
    return bool(row[f"correlation_{flag.removeprefix('mirrored_')}"] > row["correlation_mean"])


def _comparable(name: str, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return one column (n,) on a scale on which differences compare."""
    values = np.array([float(row[name]) for row in rows])
    return np.arctanh(np.clip(values, -0.9999, 0.9999)) if name in CORRELATIONS else values


def modified_z(values: np.ndarray) -> np.ndarray:
    """Return the modified z-scores (n,); zeros for few sessions, or where most do not differ."""
    away = values - np.median(values)
    deviation = np.median(np.abs(away))
    if len(values) < FEWEST or deviation <= 1e-6 * max(abs(float(np.median(values))), 1e-6):
        return np.zeros(len(values))
    return np.asarray(0.6745 * away / deviation)


def _joint_distances(scores: np.ndarray) -> np.ndarray | None:
    """Return the Mahalanobis distances (n,) of modified z-scores (n, k); None for few sessions, or scores of 0."""
    from scipy.stats import spearmanr

    if len(scores) < FEWEST_JOINT or not scores.any(axis=0).all():
        return None
    # the correlation of normal variables from that of their ranks, which outliers hardly move
    values, vectors = np.linalg.eigh(2 * np.sin(np.pi / 6 * spearmanr(scores).statistic))
    return np.asarray(np.sqrt(((scores @ vectors) ** 2 / np.maximum(values, LEAST_VARIANCE)).sum(axis=1)))
