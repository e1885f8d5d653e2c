"""`mlflow run . -e augmentation`: do generated brains help a classifier of CDR? The paper's App. C.3 as one run."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from experiments.augmentation import (
    MEASURES,
    Task,
    Trial,
    as_figure,
    as_markdown,
    augmentation_study,
    check_study,
    summary,
    task_of,
)
from experiments.brains import read_cohort
from experiments.config import Config
from experiments.judge import choose_device
from geovae.tracking import MlflowTracker
from mlflow_projects import entry

PRESETS: dict[str, Config] = {
    "small": {
        "sizes": [25, 50, 80],
        "folds": 5,
        "generated": 100,
        "network": "mlp",
        "width": 128,
        "latent_dim": 8,
        "epochs": 500,
        "learning_rate": 1e-3,
        "steps": 200,
    },
    "full": {},
}
ROWS = 52  # of a picture of the small study


def main(flags: Sequence[str]) -> None:
    """Study the slices below `--root`; `--preset small` (minutes on two cores) or `full` (the paper's network, a GPU).

    `--shrink K` makes the pictures K times smaller; `--device` is auto, cpu or cuda; the other flags are the options of
    `experiments.augmentation.augmentation_study`.
    """
    values, rest = entry.take_flags(flags, root="data_folders", preset="small", shrink="", device="auto")
    if values["preset"] not in PRESETS:
        raise ValueError(f"unknown preset {values['preset']!r}; choose from {', '.join(PRESETS)}")
    skip = ("task", "device")
    options = entry.bind(augmentation_study, rest, "augmentation", skip=skip, defaults=PRESETS[values["preset"]])
    cohort = read_cohort({"name": "oasis", "root": values["root"]})
    small = max(1, cohort.images.shape[2] // ROWS) if values["preset"] == "small" else 1
    task = task_of(cohort, entry.whole("shrink", values["shrink"], 1) if values["shrink"] else small)
    check_study(task, *(options[name] for name in ("sizes", "methods", "folds", "generated")))
    device = choose_device(values["device"])
    with entry.open_run("augmentation") as tracker:
        tracker.params({f"cfg.{key}": value for key, value in (values | options).items()})
        tracker.tags({"role": "augmentation", "dataset": "oasis"})
        total = options["folds"] * len(options["sizes"]) * len(options["methods"])
        trials = list(tqdm(augmentation_study(task, **options, device=device), total=total, unit="classifier"))
        table = as_markdown(trials, task)
        _track(tracker, trials, task, table)
    print(table)


def _track(tracker: MlflowTracker, trials: list[Trial], task: Task, table: str) -> None:
    """Track means and deviations with the number of subjects as the step, the table, the figure, all predictions."""
    for (size, method), measures in summary(trials).items():
        numbers = {f"classifier/{method}/{name}": measures[name][0] for name in MEASURES}
        spread = {f"classifier/{method}/{name}_sd": measures[name][1] for name in MEASURES}
        tracker.metrics(numbers | spread, step=size)
    tracker.text("augmentation.md", table)
    tracker.figure("augmentation.png", as_figure(trials))
    tracker.tags({"mlflow.note.content": table})
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["size", "method", "fold", "id", "label", "probability"])
    writer.writerows(_predictions(trials, task))
    tracker.text("predictions.csv", file.getvalue())


def _predictions(trials: list[Trial], task: Task) -> list[list[Any]]:
    return [
        [t.size, t.method, t.fold, task.ids[row], int(task.labels[row]), round(float(p), 6)]
        for t in trials
        for row, p in zip(t.rows, t.probability, strict=True)
    ]


if __name__ == "__main__":
    entry.main(main)
