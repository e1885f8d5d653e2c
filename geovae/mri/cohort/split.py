"""Train, validation and test by subject: the scans of one subject never part, or scores rise by the leak alone."""

from collections.abc import Sequence

import numpy as np

from geovae.mri.problems import Problem, count, some


def split_subjects(
    subjects: Sequence[str],
    labels: Sequence[float],
    *,
    val_fraction: float = 1 / 6,
    test_fraction: float = 0.0,
    seed: int = 0,
) -> tuple[np.ndarray, list[Problem]]:
    """Return `train`, `val` or `test` for each row (n,), and warnings of classes too small to stratify.

    Args:
        subjects: (n,) of the rows; all rows of one subject come to the same part.
        labels: (n,), such as CDR with -1 for not assessed; a subject's first row decides its class. Every class is
            shared out in proportion to within one subject; classes with fewer subjects than there are parts are
            shared out together with the class below.
        val_fraction: share of the subjects.
        test_fraction: share of the subjects; 0 gives no test part.
        seed: of the draw.

    Raises:
        ValueError: for fractions that leave no training set, or fewer subjects than parts.
    """
    shares = {"val": val_fraction, "test": test_fraction}
    check_fractions(val_fraction, test_fraction)
    if len(subjects) != len(labels):
        raise ValueError(f"`subjects` and `labels` must be equally many, got {len(subjects)} and {len(labels)}")
    names, first = np.unique(np.asarray(subjects), return_index=True)
    parts = [name for name, share in shares.items() if share > 0]
    if len(names) <= len(parts):
        raise ValueError(f"{count(len(names), 'subject')} cannot be split into {len(parts) + 1} parts")
    classes, warnings = _pooled(np.asarray(labels, float)[first], len(parts) + 1)
    part_of = dict(zip(names.tolist(), _draw(classes, shares, seed), strict=True))
    return np.array([part_of[s] for s in subjects]), warnings


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raise ValueError unless both shares are at least 0 and together leave something to train on."""
    if not (val_fraction >= 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
        raise ValueError(
            "`val_fraction` and `test_fraction` must be at least 0, and below 1 together, "
            f"got {val_fraction:g} and {test_fraction:g}"
        )


def check_split(subjects: Sequence[str], split: Sequence[str]) -> list[Problem]:
    """Return a problem for subjects whose rows lie in several parts."""
    parts: dict[str, set[str]] = {}
    for subject, part in zip(subjects, split, strict=True):
        parts.setdefault(subject, set()).add(part)
    torn = sorted(s for s, found in parts.items() if len(found) > 1)
    if not torn:
        return []
    return [Problem("split", f"{count(len(torn), 'subject')} in more than one part: {some(torn)}")]


def _pooled(labels: np.ndarray, parts: int) -> tuple[np.ndarray, list[Problem]]:
    """Return classes (n,) in which those of fewer members than parts are joined to the class below, and say so."""
    classes, warnings = labels.copy(), []
    for value in sorted(set(labels.tolist()), reverse=True):
        members = int((classes == value).sum())
        smaller = [v for v in set(classes.tolist()) if v < value]
        if 0 < members < parts:
            sentence = f"class {value:g} has {count(members, 'subject')}, too few to stratify over {parts} parts"
            if smaller:
                sentence += f": joined to class {max(smaller):g}"
                classes[classes == value] = max(smaller)
            warnings.append(Problem("split", sentence, warning=True))
    return classes, warnings


def _draw(classes: np.ndarray, shares: dict[str, float], seed: int) -> np.ndarray:
    """Return the part of each member (n,): rounding the running total keeps the totals exact; no part stays empty."""
    order = np.random.default_rng(seed).permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    part = np.full(len(classes), "train", dtype="<U5")
    taken, end = dict.fromkeys(shares, 0), 0
    for size in np.unique(classes, return_counts=True)[1]:
        start, end = end, end + int(size)
        for name, share in shares.items():
            quota = min(round(share * end) - taken[name], end - start)
            part[order[start : start + quota]] = name
            taken[name] += quota
            start += quota
    for name in ["train", *(name for name, share in shares.items() if share > 0)]:
        if name not in part:
            names, sizes = np.unique(part, return_counts=True)
            part[order[part[order] == names[sizes.argmax()]][-1]] = name
    return part
