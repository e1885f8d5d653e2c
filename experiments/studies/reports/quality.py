"""Samplers on the same codes: scores, memorisation, the samplers' own diagnostics, and samples of each."""

from collections.abc import Iterator

from experiments.leaderboard import Entry, distinct
from experiments.page import Part, Picture
from experiments.studies.cells import Study
from experiments.studies.execute import Outcome
from experiments.studies.ranking import by_data, rank_table
from experiments.studies.reports.scores import score_section
from experiments.studies.score_figures import sample_rows, trade_off_picture
from experiments.tables import as_markdown, mean_and_sd

COLUMNS = {
    "codes above floor": "codes_above_floor",
    "samples above floor": "samples_above_floor",
    "acceptance": "acceptance",
    "moved": "distance_to_start_ratio",
    "nearest code": "nearest_code_ratio",
    "R-hat": "r_hat",
    "seconds": "seconds",
}
MEANING = """
*Above floor*: part of the training codes, and of the samples, where the metric is not flat. *Moved*: how far chains
got, and *nearest code*: how near samples lie to training codes, both over the distance between training codes. R-hat is
1 for chains that forgot their start, which short chains around many modes are not meant to do."""


def quality(study: Study, entries: list[Entry], outcomes: list[Outcome]) -> Iterator[Part]:
    """Yield for each data set scores, trade-off, diagnostics and samples, and the ranks."""
    for data, group in by_data(entries).items():
        yield f"## {data}\n\n{score_section(group)}"
        yield trade_off_picture(data, group)
        yield f"Diagnostics of the samplers:\n\n{_diagnostics_table(group)}{MEANING}"
        first = [one for one in outcomes if one.cell.data == data and one.cell.seed == study.seeds[0]]
        caption = f"{data}: samples of each sampler, seed {study.seeds[0]}"
        yield Picture(f"samples-{data}", caption, sample_rows(first))
    yield rank_table(entries)


def _diagnostics_table(group: list[Entry]) -> str:
    rows = [
        [str(entry.contender), *(mean_and_sd(entry.values(key, "diagnostics")) for key in COLUMNS.values())]
        for entry in distinct(group)
    ]
    return as_markdown(["model and sampler", *COLUMNS], rows)
