"""Which row of a table stands where: by the mean on validation images over seeds, with shared places within noise.

Rows whose samplers copy their training codes come last, whatever they score.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from experiments.leaderboard import Entry

Row = TypeVar("Row")
Scores = Mapping[str | int, float]
SHARED = (
    "Rows that share a place (=) differ from the first of them by no more than the standard error of the difference "
    "over seeds."
)
ONE_SEED = "**One seed**: differences between rows may be chance. A study or a sweep repeats them over seeds."


def by_validation(entries: "Iterable[Entry]") -> "list[Entry]":
    """Return the entries, the best mean on validation images first, then those that copy; those without one last."""

    def key(entry: "Entry") -> tuple[bool, str, bool, float]:
        mean = entry.mean(entry.headline, "val")
        return math.isnan(mean), entry.headline, entry.copies, mean

    return sorted(entries, key=key)


def places(entries: "Sequence[Entry]") -> list[str]:
    """Return the place of each of the ordered entries: "1", "2=", "2=", "4"."""
    return shared_places(entries, _scores, lambda entry: (entry.headline, entry.copies))


def _scores(entry: "Entry") -> Scores:
    numbers = {seed: scores.get(entry.headline, math.nan) for seed, scores in entry.val.items()}
    return {seed: value for seed, value in numbers.items() if math.isfinite(value)}


def shared_places(
    rows: Sequence[Row], scores: Callable[[Row], Scores], kind: Callable[[Row], object] = lambda row: None
) -> list[str]:
    """Return the places of ordered rows; one shares the place of the first of those before it that it equals in noise.

    Args:
        rows: the best first.
        scores: of a row, by seed.
        kind: rows of different kinds share no place.
    """
    groups: list[list[Row]] = []
    for row in rows:
        if groups and kind(groups[-1][0]) == kind(row) and within_noise(scores(groups[-1][0]), scores(row)):
            groups[-1].append(row)
        else:
            groups.append([row])
    found: list[str] = []
    for group in groups:
        found += [f"{len(found) + 1}{'=' * (len(group) > 1)}"] * len(group)
    return found


def within_noise(a: Scores, b: Scores) -> bool:
    """Return whether two means over seeds differ by no more than the standard error of their difference.

    Scores of the same seeds are compared in pairs. One seed tells nothing of noise: then they differ.
    """
    common = sorted(a.keys() & b.keys(), key=str)
    if len(common) > 1:
        differences = [a[seed] - b[seed] for seed in common]
        return abs(statistics.fmean(differences)) <= statistics.stdev(differences) / math.sqrt(len(common))
    if min(len(a), len(b)) < 2:
        return False
    errors = [statistics.stdev(x.values()) / math.sqrt(len(x)) for x in (a, b)]
    return abs(statistics.fmean(a.values()) - statistics.fmean(b.values())) <= math.hypot(*errors)
