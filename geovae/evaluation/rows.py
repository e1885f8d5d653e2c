"""The rows of an evaluation's table: the samples, real against real, reconstructions, classes, and their spread."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor, nn

from geovae.evaluation.image_sets import ImageSets, cut
from geovae.evaluation.scores import SCORES
from geovae.evaluation.spread import half_sample_spread, per_class

Features = Callable[[Tensor, nn.Module], Tensor]
Numbers = dict[str, float]


def score_all(names: Sequence[str], *, real: Tensor, fake: Tensor) -> Numbers:
    """Return the numbers of all scores `names` of feature matrices `real` and `fake`."""
    return {key: value for name in names for key, value in SCORES[name](real=real, fake=fake).items()}


def network_rows(sets: ImageSets, network: nn.Module, features: Features, names: Sequence[str], seed: int) -> Numbers:
    """Return the scores in one network's eyes: of the samples, of the real row (`real_`), of the reconstructions."""
    fake = features(sets.fake, network)
    values = score_all(names, real=features(sets.real, network), fake=fake)
    row = score_all(names, real=features(sets.row_real, network), fake=features(sets.row_other, network))
    values |= {f"real_{key}": value for key, value in row.items()}
    if sets.reconstructions is not None:
        other = features(sets.reconstructions, network)
        n = min(len(other), len(fake))
        found = SCORES["frechet"](real=cut(other, n, seed), fake=cut(fake, n, seed))
        values["reconstructions_frechet"] = found["frechet"]
        values["reconstructions_n"] = float(n)
    return values


def mean_and_spread(
    tables: Sequence[Numbers],
    names: Sequence[str],
    *,
    real: Tensor,
    fake: Tensor,
    repeats: int,
    seed: int,
) -> Numbers:
    """Return the mean of each number over `tables`, one a network, and `<name>_sd`.

    Several networks: their standard deviation. One: the half-sample standard error on its features `real` and `fake`.
    """
    values = {key: float(np.mean([table[key] for table in tables])) for key in tables[0]}
    if len(tables) > 1:
        spread_of = [key for key in values if not key.endswith(("_stderr", "_n"))]
        return values | {f"{key}_sd": float(np.std([t[key] for t in tables], ddof=1)) for key in spread_of}
    if repeats == 0:
        return values
    spread = half_sample_spread(
        lambda *, real, fake: score_all(names, real=real, fake=fake), real=real, fake=fake, repeats=repeats, seed=seed
    )
    return values | {f"{key}_sd": value for key, value in spread.items() if not key.endswith("_stderr")}


def class_rows(
    sets: ImageSets, labels: dict[str, Tensor], network: nn.Module, features: Features, names: Sequence[str]
) -> Numbers:
    """Return the scores within each class of `labels` ("real", "fake"), given for the sets before they were cut."""
    cut = {name: labels[name].cpu()[sets.rows[name]] for name in ("real", "fake")}
    return per_class(
        lambda *, real, fake: score_all(names, real=real, fake=fake),
        real=features(sets.real, network),
        fake=features(sets.fake, network),
        real_labels=cut["real"],
        fake_labels=cut["fake"],
        at_least=10,
    )
