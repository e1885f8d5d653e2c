"""The numbers of a study: one line for each way of sampling, mean and spread over seeds, ranks, and paired tests.

A block is one data set with one seed: within it all contenders meet the same images, and mostly the same codes. Scores
of a block are therefore compared in pairs, as logarithms, since a Frechet distance doubles rather than shifts.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from experiments.studies.execute import Outcome
from experiments.studies.plan import TRAINED, Study

Block = tuple[str, int]


class Way(NamedTuple):
    """How images were made: a model, a variant of its samplers' options (or ""), and a sampler."""

    model: str
    variant: str
    sampler: str

    def __str__(self) -> str:
        """Name it."""
        return ", ".join(filter(None, (f"{self.model} / {self.sampler}", self.variant)))


@dataclass(frozen=True)
class Line:
    """One way of sampling on one data set: for each seed the scores on validation and test images, and diagnostics.

    `repeats` marks another name for what a model was trained with: a value on the axis of an option, not a rival.
    """

    data: str
    way: Way
    headline: str
    val: dict[int, dict[str, float]]
    test: dict[int, dict[str, float]]
    diagnostics: dict[int, dict[str, float]]
    repeats: bool = False

    def values(self, key: str, kind: str = "test") -> list[float]:
        """Return one number a seed, without those that are missing."""
        found = (scores.get(key, math.nan) for scores in getattr(self, kind).values())
        return [value for value in found if math.isfinite(value)]

    def mean(self, key: str, kind: str = "test") -> float:
        """Return the mean over seeds, NaN without any."""
        values = self.values(key, kind)
        return statistics.fmean(values) if values else math.nan


def lines_of(study: Study, outcomes: Iterable[Outcome]) -> list[Line]:
    """Return one line for each data set and way, in the order of the study; a default variant repeats what it names."""
    lines: dict[tuple[str, Way], Line] = {}
    for outcome in outcomes:
        names = [outcome.variant]
        if outcome.variant == TRAINED:
            names += [v for v in study.variants if v not in outcome.cell.configs]
        varied = {s for v, c in outcome.cell.configs.items() if v != TRAINED for s in c["samplers"] or []}
        for variant in names:
            for sampler in outcome.samplers:
                if variant != outcome.variant and sampler not in varied:
                    continue  # a default variant is one of the samplers that the other variants change
                way = Way(outcome.cell.model, variant, sampler)
                line = lines.setdefault(
                    (outcome.cell.data, way),
                    Line(outcome.cell.data, way, outcome.headline, {}, {}, {}, repeats=variant != outcome.variant),
                )
                seed = outcome.cell.seed
                line.val[seed] = outcome.scores(sampler, "val_score")
                line.test[seed] = outcome.scores(sampler)
                line.diagnostics[seed] = outcome.scores(sampler, "sampler")
    order = {name: i for i, name in enumerate([TRAINED, *study.variants])}
    return sorted(lines.values(), key=lambda line: (study.data.index(line.data), order[line.way.variant]))


def distinct(lines: Iterable[Line]) -> list[Line]:
    """Return the lines without those that repeat another under a second name."""
    return [line for line in lines if not line.repeats]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return mean ± standard deviation over seeds; the mean alone of a single one, – of none."""
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:#.{digits}g}".rstrip(".")
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    decimals = max(0, 1 - math.floor(math.log10(sd))) if sd > 0 else digits
    return f"{mean:.{min(decimals, 4)}f} ± {sd:.{min(decimals, 4)}f}"


@dataclass(frozen=True)
class Standing:
    """A way among its rivals: its mean rank (1 is best), how much worse than the first it is, and how surely.

    `ratio` is the geometric mean of its score over that of the first; `p` the Holm-adjusted two-sided p of the paired
    t test of their logarithms, NaN with fewer than two blocks; `wins` the blocks in which it is better than the first.
    """

    way: Way
    rank: float
    ratio: float
    p: float
    wins: int


@dataclass(frozen=True)
class Ranking:
    """All ways by mean rank over `blocks`, and the p of Friedman's test that they are all alike."""

    standings: list[Standing]
    blocks: int
    friedman: float


def rank(lines: Sequence[Line], kind: str = "test") -> Ranking:
    """Rank the distinct ways that have a headline score in the same blocks, those with fewer blocks left out."""
    from scipy.stats import rankdata

    scores: dict[Way, dict[Block, float]] = {}
    for line in distinct(lines):
        found = {(line.data, seed): s.get(line.headline, math.nan) for seed, s in getattr(line, kind).items()}
        scores.setdefault(line.way, {}).update({block: value for block, value in found.items() if value > 0})
    blocks = sorted(set().union(*scores.values())) if scores else []
    complete = {way: [found[b] for b in blocks] for way, found in scores.items() if len(found) == len(blocks)}
    if not blocks or not complete:
        return Ranking([], 0, math.nan)
    table = list(complete.values())
    ranks = rankdata(table, axis=0).mean(axis=1)
    ordered = sorted(zip(ranks.tolist(), complete, table, strict=True), key=lambda item: (item[0], min(item[2])))
    best = ordered[0][2]
    p_values = holm({way: _paired_p(values, best) for _, way, values in ordered[1:]})
    standings = [
        Standing(way, mean, _ratio(values, best), p_values.get(way, math.nan), _wins(values, best))
        for mean, way, values in ordered
    ]
    return Ranking(standings, len(blocks), _friedman(table))


def holm(p_values: Mapping[Way, float]) -> dict[Way, float]:
    """Return the p values adjusted for their number (Holm 1979)."""
    adjusted, highest = {}, 0.0
    finite = sorted((p, way) for way, p in p_values.items() if math.isfinite(p))
    for i, (p, way) in enumerate(finite):
        highest = max(highest, min(1.0, (len(finite) - i) * p))
        adjusted[way] = highest
    return {way: adjusted.get(way, math.nan) for way in p_values}


def _paired_p(a: Sequence[float], b: Sequence[float]) -> float:
    from scipy.stats import ttest_rel

    x, y = ([math.log(value) for value in values] for values in (a, b))
    differences = [u - v for u, v in zip(x, y, strict=True)]
    if len(differences) < 2:
        return math.nan
    if len(set(differences)) == 1:
        return 1.0 if differences[0] == 0 else 0.0
    return float(ttest_rel(x, y).pvalue)


def _friedman(table: Sequence[Sequence[float]]) -> float:
    from scipy.stats import friedmanchisquare

    return float(friedmanchisquare(*table).pvalue) if len(table) > 2 and len(table[0]) > 1 else math.nan


def _ratio(a: Sequence[float], b: Sequence[float]) -> float:
    return math.exp(statistics.fmean(math.log(x / y) for x, y in zip(a, b, strict=True)))


def _wins(a: Sequence[float], b: Sequence[float]) -> int:
    return sum(x < y for x, y in zip(a, b, strict=True))
