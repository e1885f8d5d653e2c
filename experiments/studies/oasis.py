"""What the study `oasis` needs beside runs: a synthetic cohort to stand on, and the classifiers of App. C.3.

In a size of its YAML file, `classifier` holds options of `experiments.augmentation.augmentation_study`, and `shrink`;
`cohort: {folder, subjects, voxel}` is written and prepared on first use, and only if a run reads that folder.
"""

import csv
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.augmentation import Task, Trial, augmentation_study, check_study, task_of
from experiments.brains import read_cohort
from experiments.config import Config, ConfigError
from experiments.studies.cells import TRAINED, Study
from experiments.studies.execute import Outcome
from geovae.devices import choose_device
from geovae.mri import prepare, write_cohort
from geovae.mri.cohort.jobs import cores
from geovae.mri.cohort.process import T88_SHAPE

CHECKED = ("sizes", "methods", "folds", "generated", "classifier")


def make_ready(study: Study, say: Callable[[str], None]) -> None:
    """Make the cohort of a study of brains if it is not there, and hold its classifiers' options against the data.

    Raises:
        ValueError: in one sentence, for options that cannot be, before anything is trained.
        FileNotFoundError: for data that are not there and are not made here.
    """
    if study.report != "oasis":
        return
    options = study.source.get("classifier") or {}
    known = [*list(inspect.signature(augmentation_study).parameters)[1:-2], "shrink"]
    wrong = [name for name in options if name not in known]
    if wrong:
        raise ConfigError(f"unknown option {wrong[0]!r} of `classifier`; valid are {', '.join(known)}")
    defaults = {name: p.default for name, p in inspect.signature(augmentation_study).parameters.items()}
    data = {cell.data: cell.configs[TRAINED]["data"] for cell in study.cells}
    for one in data.values():
        make_cohort(study.source.get("cohort") or {}, Path(one["root"]), say)
        check_study(task_of(read_cohort(one), options.get("shrink", 1)), *((defaults | options)[k] for k in CHECKED))


def make_cohort(asked: Mapping[str, Any], root: Path, say: Callable[[str], None]) -> None:
    """Write and prepare the synthetic cohort `asked` for, if its folder is `root` and holds none."""
    if not asked or Path(asked["folder"]) != root or (root / "oasis" / "OASIS.npz").is_file():
        return
    say(f"writing {asked['subjects']} synthetic brains into {root}, once")
    voxel = asked["voxel"]
    write_cohort(root / "source", subjects=asked["subjects"], voxel=voxel, workers=cores())
    shape = tuple(n // voxel for n in T88_SHAPE)
    prepare(root / "source", root, spacing=float(voxel), shape=shape, progress=False)


def classified(outcome: Outcome, options: Config) -> tuple[list[Trial], Task, dict[str, float]]:
    """Return the trials of App. C.3 on the data of a run, their task, and the atrophy of each session if it is known.

    What a classifier has said is kept beside the run's model, and not repeated.
    """
    from tqdm import tqdm

    config = outcome.cell.configs[TRAINED]
    options = dict(options)
    task = task_of(read_cohort(config["data"]), options.pop("shrink", 1))
    trials = augmentation_study(
        task, **options, device=choose_device(config["device"]), keep=outcome.model_file.parent / "classifiers"
    )
    return list(tqdm(trials, unit=" classifiers", mininterval=20)), task, read_truth(Path(config["data"]["root"]))


def read_truth(root: Path) -> dict[str, float]:
    """Return the atrophy of each session of a synthetic cohort below `root`, nothing for other data."""
    path = root / "source" / "ground_truth.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: float(row["atrophy"]) for row in csv.DictReader(file)}
