"""The middle of each study's report, by the name that a study file gives as `report`: one file for each."""

from collections.abc import Callable, Iterator

from experiments.leaderboard import Entry
from experiments.page import Part
from experiments.studies.cells import Study
from experiments.studies.execute import Outcome
from experiments.studies.reports.ablation import ablation
from experiments.studies.reports.figure1 import figure1_report
from experiments.studies.reports.figure3 import figure3
from experiments.studies.reports.figure4 import figure4
from experiments.studies.reports.oasis import oasis
from experiments.studies.reports.quality import quality
from experiments.studies.reports.scores import scores
from experiments.studies.reports.table1 import table1

Report = Callable[[Study, list[Entry], list[Outcome]], Iterator[Part]]
REPORTS: dict[str, Report] = {
    "scores": scores,
    "table1": table1,
    "figure1": figure1_report,
    "figure3": figure3,
    "figure4": figure4,
    "ablation": ablation,
    "quality": quality,
    "oasis": oasis,
}
