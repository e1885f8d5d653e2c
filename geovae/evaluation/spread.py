"""How far a score can be trusted: its spread over halves of the data, and its value within each class."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from geovae.evaluation.matrices import Matrix, check_pair, subsample

Score = Callable[..., dict[str, float]]


def half_sample_spread(
    score: Score, *, real: Matrix, fake: Matrix, repeats: int = 20, seed: int = 0
) -> dict[str, float]:
    """Return the standard error of each key of `score` from random halves of `real` (n, dims) and `fake` (m, dims).

    The standard deviation over halves drawn without replacement is that of the full sample for any mean-like value
    (Shao & Tu 1995, the delete-d jackknife with d = n / 2). A bootstrap would repeat rows, which spoils covariances and
    neighbours.
    """
    if repeats < 2:
        raise ValueError(f"`repeats` must be at least 2 to have a spread, got {repeats}")
    real, fake = check_pair(real, fake, at_least=4)
    values = []
    for i in range(repeats):
        rows = [subsample(len(m), len(m) // 2, 2 * (seed + i) + j) for j, m in enumerate((real, fake))]
        values.append(score(real=real[rows[0].to(real.device)], fake=fake[rows[1].to(real.device)]))
    return {key: float(np.std([v[key] for v in values], ddof=1)) for key in values[0]}


def per_class(
    score: Score, *, real: Matrix, fake: Matrix, real_labels: Tensor, fake_labels: Tensor, at_least: int = 2
) -> dict[str, float]:
    """Return `score` within each class: its keys with `_class<label>` behind, and `n_class<label>`, the rows used.

    Both sides of a class are cut to the smaller one. A class with fewer than `at_least` rows on a side has only its
    `n_class<label>`, and is named in a warning.
    """
    real, fake = check_pair(real, fake)
    for name, labels, rows in (("real_labels", real_labels, real), ("fake_labels", fake_labels, fake)):
        if labels.shape != (len(rows),):
            raise ValueError(f"`{name}` must be of shape ({len(rows)},), one label a row, got {tuple(labels.shape)}")
    values, missing = {}, []
    for label in torch.cat([real_labels.cpu(), fake_labels.cpu()]).unique().tolist():
        x, y = real[(real_labels == label).to(real.device)], fake[(fake_labels == label).to(real.device)]
        n = min(len(x), len(y))
        values[f"n_class{label}"] = float(n)
        if n < at_least:
            missing.append(f"{label} ({len(x)} real, {len(y)} fake)")
            continue
        parts = (m[subsample(len(m), n, 0).to(m.device)] for m in (x, y))
        found = score(**dict(zip(("real", "fake"), parts, strict=True)))
        values |= {f"{key}_class{label}": value for key, value in found.items()}
    if missing:
        warnings.warn(f"no score within classes of fewer than {at_least} rows: {', '.join(missing)}", stacklevel=2)
    return values
