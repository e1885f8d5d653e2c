"""The numbers of a study: an entry for each contender, ranks over blocks, and paired tests.

A block is one data set with one seed: within it all contenders meet the same images, and mostly the same codes. Scores
of a block are therefore compared in pairs, as logarithms, since a Frechet distance doubles rather than shifts.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.leaderboard import COPIES, NOVELTY, Contender, Entry, Part, distinct
from experiments.studies.cells import TRAINED, Study
from experiments.studies.execute import Outcome
from experiments.tables import as_markdown, format_number, link
from geovae.evaluation import LEAST_NOVELTY

Block = tuple[str, str | int]


def entries_of(
    study: Study, outcomes: Iterable[Outcome], run_url: Callable[[str], str] = lambda run_id: ""
) -> list[Entry]:
    """Return an entry for each data set and contender, in the order of the study.

    A variant that asks for what another asks for repeats its entry; the trained model's, for the samplers that other
    variants change.

    Args:
        study: from `read_study`.
        outcomes: of its configurations.
        run_url: returns the address of a run, by its id.
    """
    entries: dict[tuple[str, Contender], Entry] = {}
    outcomes = list(outcomes)
    undertrained = {(o.cell.data, o.cell.model) for o in outcomes if o.found.metrics.get("best/undertrained")}
    for outcome in outcomes:
        names = [outcome.variant, *(name for name, first in outcome.cell.same.items() if first == outcome.variant)]
        configs = outcome.cell.configs.items()
        varied = {sampler for name, config in configs if name != TRAINED for sampler in config["samplers"] or []}
        for name in names:
            repeats = name != outcome.variant
            for sampler in outcome.samplers:
                if repeats and sampler not in varied:
                    continue
                contender = Contender(outcome.cell.model, name, sampler)
                marked = (outcome.cell.data, outcome.cell.model) in undertrained
                entry = Entry(outcome.cell.data, contender, outcome.headline, {}, {}, {}, repeats, undertrained=marked)
                entry = entries.setdefault((outcome.cell.data, contender), entry)
                seed = outcome.cell.seed
                entry.val[seed] = outcome.scores(sampler, "val_score")
                entry.test[seed] = outcome.scores(sampler)
                entry.diagnostics[seed] = outcome.scores(sampler, "sampler")
                if outcome.found.run_id:
                    entry.runs.append(link(str(seed), run_url(outcome.found.run_id)))
    order = {name: i for i, name in enumerate([TRAINED, *study.variants])}
    return sorted(entries.values(), key=lambda e: (study.data.index(e.data), order[e.contender.variant]))


def by_data(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Return the entries of each data set."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.data, []).append(entry)
    return groups


@dataclass(frozen=True)
class Standing:
    """A contender among its rivals: its mean rank (1 is best), how much worse than the first it is, and how surely.

    `ratio` is the geometric mean of its score over that of the first; `p` the Holm-adjusted two-sided p of the paired
    t test of their logarithms, NaN with fewer than two blocks; `wins` the blocks in which it is better than the first.
    """

    contender: Contender
    rank: float
    ratio: float
    p: float
    wins: int


@dataclass(frozen=True)
class Ranking:
    """All contenders by mean rank over `blocks`, and the p of Friedman's test that they are all alike."""

    standings: list[Standing]
    blocks: int
    friedman: float


def rank(entries: Sequence[Entry], part: Part = "test") -> Ranking:
    """Rank the distinct contenders that have a headline score in every block; those that miss one are left out.

    Contenders whose samplers copy, in the mean over blocks, stand behind all others.
    """
    from scipy.stats import rankdata

    scores: dict[Contender, dict[Block, float]] = {}
    for entry in distinct(entries):
        by_seed = getattr(entry, part).items()
        found = {(entry.data, seed): numbers.get(entry.headline, math.nan) for seed, numbers in by_seed}
        scores.setdefault(entry.contender, {}).update({block: value for block, value in found.items() if value > 0})
    blocks = sorted(set().union(*scores.values())) if scores else []
    complete = {name: [found[b] for b in blocks] for name, found in scores.items() if len(found) == len(blocks)}
    if not blocks or not complete:
        return Ranking([], 0, math.nan)
    table = list(complete.values())
    ranks, copiers = rankdata(table, axis=0).mean(axis=1), copying(entries)
    ordered = sorted(
        zip(ranks.tolist(), complete, table, strict=True), key=lambda item: (item[1] in copiers, item[0], min(item[2]))
    )
    best = ordered[0][2]
    p_values = holm({name: _paired_p(values, best) for _, name, values in ordered[1:]})
    standings = [
        Standing(name, mean, _ratio(values, best), p_values.get(name, math.nan), _wins(values, best))
        for mean, name, values in ordered
    ]
    return Ranking(standings, len(blocks), _friedman(table))


def copying(entries: Iterable[Entry]) -> set[Contender]:
    """Return the contenders whose samplers stay near their training codes, by the mean code novelty over blocks."""
    novelty: dict[Contender, list[float]] = {}
    for entry in distinct(entries):
        novelty.setdefault(entry.contender, []).extend(entry.values(NOVELTY, "val"))
    return {name for name, values in novelty.items() if values and statistics.fmean(values) < LEAST_NOVELTY}


def holm(p_values: Mapping[Contender, float]) -> dict[Contender, float]:
    """Return the p values adjusted for their number (Holm 1979)."""
    adjusted, highest = {}, 0.0
    finite = sorted((p, name) for name, p in p_values.items() if math.isfinite(p))
    for i, (p, name) in enumerate(finite):
        highest = max(highest, min(1.0, (len(finite) - i) * p))
        adjusted[name] = highest
    return {name: adjusted.get(name, math.nan) for name in p_values}


def rank_table(entries: Sequence[Entry]) -> str:
    """Return the ranking of entries as a section; nothing with fewer than two contenders or two blocks."""
    ranking = rank(entries)
    if len(ranking.standings) < 2 or ranking.blocks < 2:
        return ""
    copiers = copying(entries)
    marks = {entry.contender: entry.mark for entry in entries if entry.undertrained}
    rows = [
        [
            f"{s.contender}{marks.get(s.contender, '')}{f' ({COPIES})' * (s.contender in copiers)}",
            f"{s.rank:.2f}",
            f"{s.ratio:.3f}",
            f"{s.wins} of {ranking.blocks}" if i else None,
            _p(s.p),
        ]
        for i, s in enumerate(ranking.standings)
    ]
    friedman = "" if math.isnan(ranking.friedman) else f" All alike (Friedman): p = {_p(ranking.friedman)}."
    return (
        f"## Ranks over {ranking.blocks} blocks\n\n"
        + as_markdown(["model and sampler", "mean rank", "score over the first's", "beats the first in", "p"], rows)
        + "\nBy the score on test images; *score over the first's* is a geometric mean over blocks. p: paired t test "
        f"against the first, adjusted after Holm.{friedman}"
    )


def _p(value: float) -> str:
    return format_number(value) if math.isnan(value) else f"{value:.2g}"


def _paired_p(a: Sequence[float], b: Sequence[float]) -> float:
    from scipy.stats import ttest_rel

    x, y = ([math.log(value) for value in values] for values in (a, b))
    differences = [u - v for u, v in zip(x, y, strict=True)]
    if len(differences) < 2:
        return math.nan
    # without any spread the t statistic is 0 / 0, or infinite
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
