"""What a score is: a function of two feature matrices (n, dims), with the numbers that it gives; and what scores share.

Features are checked here once, centred so that distances survive float32, and walked through in blocks.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from geovae.checks import check_count
from geovae.devices import full_precision
from geovae.neighbours import Matrix, blocks

Numbers = dict[str, float]


@dataclass(frozen=True)
class Number:
    """What a number of a score means, its unit, and what the contract tests may ask of it.

    Args:
        meaning: one line for the page of recorded names.
        unit: "-" for a plain ratio.
        better: which side is better; empty where neither is.
        equal: the value of two equal sets, where it is known.
        far: the value of two sets that lie infinitely far apart, where it is known.
        noise: how much the order of the rows may change it; infinite where the order decides it.
        names: of a number that is only comparable within one extractor: its names on Inception's features, and on
            those of another extractor, where `{}` stands for the extractor's name.
    """

    meaning: str
    unit: str = "-"
    better: Literal["lower", "higher", ""] = ""
    equal: float | None = None
    far: float | None = None
    noise: float = 1e-9
    names: tuple[str, str] | None = None

    def recorded_name(self, key: str, extractor: str) -> str:
        """Return the name under which the number `key` of a score is recorded for an extractor."""
        if self.names is None:
            return key
        return self.names[0] if extractor == "inception" else self.names[1].format(extractor)


@dataclass(frozen=True)
class Score:
    """A score: called with feature matrices `real` (n, dims) and `fake` (m, dims), it returns its `numbers`.

    Args:
        compute: the function, called with checked tensors of one type on the device of `real`.
        numbers: what each number means.
        least_rows: of each matrix, for the default options.
        any_n: whether sets of different n compare: the larger one then only lessens noise and bias.
    """

    compute: Callable[..., Numbers]
    numbers: Mapping[str, Number]
    least_rows: int = 2
    any_n: bool = False

    @full_precision()
    def __call__(self, *, real: Matrix, fake: Matrix, **options: Any) -> Numbers:
        """Check both matrices and compute; the arguments are keywords, since exchanging the sets changes most scores.

        Raises:
            ValueError: for other shapes, too few rows, different widths, NaN or infinity.
        """
        # with options of its own, such as fewer clusters, a score may do with fewer rows: it checks them itself
        real, fake = check_pair(real, fake, at_least=2 if options else self.least_rows)
        return self.compute(real=real, fake=fake, **options)


def score(
    numbers: Mapping[str, Number], *, least_rows: int = 2, any_n: bool = False
) -> Callable[[Callable[..., Numbers]], Score]:
    """Return a decorator that makes a `Score` of a function of keyword-only `real` and `fake`."""
    return lambda compute: Score(compute, numbers, least_rows, any_n)


def deviations(tables: Sequence[Numbers]) -> Numbers:
    """Return the standard deviation `<name>_sd` over `tables` of each number that is not a count or a spread itself."""
    keys = [key for key in tables[0] if not key.endswith(("_stderr", "_n"))]
    return {f"{key}_sd": float(np.std([table[key] for table in tables], ddof=1)) for key in keys}


def half_sample_spread(
    score: Callable[..., Numbers], *, real: Matrix, fake: Matrix, repeats: int = 5, seed: int = 0
) -> Numbers:
    """Return the standard error `<name>_sd` of each number of `score` from random halves of `real` and `fake`.

    The standard deviation over halves drawn without replacement is that of the full sample for any mean-like value
    (Shao & Tu 1995, the delete-d jackknife with d = n / 2). A bootstrap would repeat rows, which spoils covariances and
    neighbours.
    """
    check_count(low=2, repeats=repeats)
    real, fake = check_pair(real, fake, at_least=4)
    tables = []
    for i in range(repeats):
        rows = [subsample(len(m), len(m) // 2, 2 * (seed + i) + j) for j, m in enumerate((real, fake))]
        tables.append(score(real=real[rows[0].to(real.device)], fake=fake[rows[1].to(real.device)]))
    return deviations(tables)


def per_class(
    score: Callable[..., Numbers],
    *,
    real: Matrix,
    fake: Matrix,
    real_labels: Tensor,
    fake_labels: Tensor,
    at_least: int = 10,
) -> Numbers:
    """Return `<name>_class<label>`: the numbers of `score` within each class, and `n_class<label>`, the rows used.

    Both sides of a class are reduced to the smaller one. A class with fewer than `at_least` rows on a side has only its
    `n_class<label>`, and is named in a warning.
    """
    real, fake = check_pair(real, fake)
    for name, labels, rows in (("real_labels", real_labels, real), ("fake_labels", fake_labels, fake)):
        if labels.shape != (len(rows),):
            raise ValueError(f"`{name}` must be of shape ({len(rows)},), one label a row, got {tuple(labels.shape)}")
    values, missing = {}, []
    for label in torch.unique(torch.cat([real_labels.cpu(), fake_labels.cpu()])).tolist():
        x, y = real[(real_labels == label).to(real.device)], fake[(fake_labels == label).to(real.device)]
        n = min(len(x), len(y))
        values[f"n_class{label}"] = float(n)
        if n < at_least:
            missing.append(f"{label} ({len(x)} real, {len(y)} fake)")
            continue
        x, y = (m[subsample(len(m), n, 0).to(m.device)] for m in (x, y))
        values |= {f"{key}_class{label}": value for key, value in score(real=x, fake=y).items()}
    if missing:
        warnings.warn(f"no score within classes of fewer than {at_least} rows: {', '.join(missing)}", stacklevel=2)
    return values


def check_features(features: Matrix, name: str, *, at_least: int = 2) -> Tensor:
    """Return `features` (n, dims) as a float32 or float64 tensor on its own device.

    float64 stays float64; everything else becomes float32.

    Raises:
        ValueError: for another shape, fewer than `at_least` rows, no columns, or a value that is not finite.
    """
    matrix = torch.as_tensor(features).detach()
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"`{name}` must be a feature matrix of shape (n, dims), got {tuple(matrix.shape)}")
    if len(matrix) < at_least:
        raise ValueError(f"`{name}` must have at least {at_least} rows for this score, got {len(matrix)}")
    if matrix.dtype != torch.float64:
        matrix = matrix.float()
    bad = len(matrix) - int(torch.isfinite(matrix).all(dim=1).sum())
    if bad:
        raise ValueError(f"`{name}` has {bad} of {len(matrix)} rows with NaN or infinity; look at those images first")
    return matrix


def check_pair(real: Matrix, fake: Matrix, *, at_least: int = 2) -> tuple[Tensor, Tensor]:
    """Return `real` (n, dims) and `fake` (m, dims) as tensors of one type on the device of `real`."""
    real, fake = check_features(real, "real", at_least=at_least), check_features(fake, "fake", at_least=at_least)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"`real` and `fake` must have the same number of columns, got {real.shape[1]} and {fake.shape[1]}; "
            "were they extracted by the same extractor from images of one size?"
        )
    dtype = torch.promote_types(real.dtype, fake.dtype)
    return real.to(dtype), fake.to(real.device, dtype)


def centre(reference: Tensor, *others: Tensor) -> list[Tensor]:
    """Return `reference` (n, dims) and `others` minus the mean of `reference`: distances then survive float32.

    What is left of a column that is constant up to its rounding becomes exactly 0.
    """
    mean = reference.mean(dim=0, dtype=torch.float64)
    rounding = torch.finfo(reference.dtype).eps * reference.abs().amax(dim=0).double()
    shifted = [torch.empty_like(m) for m in (reference, *others)]
    for source, target in zip((reference, *others), shifted, strict=True):
        for rows in blocks(len(source)):  # in blocks, since the double precision copy of a large set is large
            block = source[rows].double() - mean
            target[rows] = block.masked_fill_(block.abs() <= rounding, 0.0)
    return shifted


def subsample(n: int, size: int, seed: int) -> Tensor:
    """Return `size` distinct indices below `n`, sorted, drawn with `seed`; all of them where `size` >= `n`."""
    if size >= n:
        return torch.arange(n)
    return torch.from_numpy(np.sort(np.random.default_rng(seed).permutation(n)[:size]))


def subset(rows: Tensor, n: int, seed: int) -> Tensor:
    """Return `n` rows drawn with `seed`, in their order; `rows` itself where there are no more."""
    return rows if n >= len(rows) else rows[subsample(len(rows), n, seed).to(rows.device)]
