"""App. C.3: samples of brains, and what they are worth to a classifier of CDR with few subjects."""

from collections.abc import Iterator

from experiments.augmentation import as_figure, as_markdown
from experiments.brains import read_cohort
from experiments.leaderboard import Entry
from experiments.page import Numbers, Part, Picture
from experiments.studies.cells import TRAINED, Study
from experiments.studies.execute import Outcome
from experiments.studies.oasis import classified
from experiments.studies.ranking import by_data, rank_table
from experiments.studies.reports.scores import score_section
from experiments.studies.score_figures import sample_rows


def oasis(study: Study, entries: list[Entry], outcomes: list[Outcome]) -> Iterator[Part]:
    """Yield for each data set scores, samples, the classifiers and their predictions, and the ranks."""
    for data, group in by_data(entries).items():
        first = [one for one in outcomes if one.cell.data == data and one.cell.seed == study.seeds[0]]
        yield f"## {data}: the samples\n\n{score_section(group)}"
        figure, directions = sample_rows(first), read_cohort(first[0].cell.configs[TRAINED]["data"]).directions
        for ax in figure.axes:
            directions.mark(ax, 5)
        figure.suptitle(directions.caption, fontsize=8)
        yield Picture(f"samples-{data}", f"{data}: samples, seed {study.seeds[0]}; {directions.caption}", figure)
        trials, task, truth = classified(first[0], study.source["classifier"])
        yield f"## {data}: CDR 0 against CDR above 0\n\n{as_markdown(trials, task, truth)}"
        caption = f"{data}: the same over the number of training subjects; bars are one standard deviation over folds"
        yield Picture(f"classifiers-{data}", caption, as_figure(trials))
        predictions = [
            [trial.size, trial.method, trial.fold, task.ids[row], int(task.labels[row]), f"{p:.6f}"]
            for trial in trials
            for row, p in zip(trial.rows, trial.probability, strict=True)
        ]
        head = ["size", "method", "fold", "id", "label", "probability"]
        yield Numbers(f"predictions-{data}", head, predictions)
    yield rank_table(entries)
