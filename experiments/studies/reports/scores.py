"""The plain report: a table of scores for each data set, and the ranks."""

from collections.abc import Iterator

from experiments.leaderboard import Entry, reference, score_table
from experiments.page import Part
from experiments.studies.cells import Study
from experiments.studies.execute import Outcome
from experiments.studies.ranking import by_data, rank_table


def scores(study: Study, entries: list[Entry], outcomes: list[Outcome]) -> Iterator[Part]:
    """Yield tables of scores and the ranks."""
    for data, group in by_data(entries).items():
        yield f"## {data}\n\n{score_section(group)}"
    yield rank_table(entries)


def score_section(group: list[Entry]) -> str:
    """Return the scores of one data set, with what real images score."""
    return f"{score_table(group)}\n{reference(group)}"
