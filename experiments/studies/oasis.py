"""What the study `oasis` needs beside runs: a synthetic cohort to work on, and the classifiers of App. C.3.

In a size of its YAML file, `classifier` holds the options of `experiments.augmentation.Design`, and `shrink`;
`cohort: {folder, subjects, voxel}` is written and prepared on first use, and only if a run reads that folder.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from experiments.augmentation import Design, Task, Trial, augmentation_study, task_of
from experiments.brains import read_cohort
from experiments.config import Config
from experiments.studies.cells import TRAINED, Study
from experiments.studies.execute import Outcome
from experiments.yaml_file import ConfigError
from geovae.devices import choose_device
from geovae.mri import Execution, Steps, prepare, write_cohort
from geovae.mri.cohort.process import T88_SHAPE


def make_ready(study: Study, report_progress: Callable[[str], None]) -> None:
    """Make the cohort of a study of brains if it does not exist, and check its classifiers' options against the data.

    Raises:
        ValueError: in one sentence, for options that cannot be, before anything is trained.
        FileNotFoundError: for data that do not exist and are not made here.
    """
    if study.report != "oasis":
        return
    design, shrink = _read_design(study.source.get("classifier") or {})
    data = {cell.data: cell.configs[TRAINED]["data"] for cell in study.cells}
    for options in data.values():
        make_cohort(study.source.get("cohort") or {}, Path(options["root"]), report_progress)
        design.check(task_of(read_cohort(options), shrink))


def make_cohort(cohort: Mapping[str, Any], root: Path, report_progress: Callable[[str], None]) -> None:
    """Write and prepare the synthetic cohort of a study, if its folder is `root` and holds none."""
    if not cohort or Path(cohort["folder"]) != root or (root / "oasis" / "OASIS.npz").is_file():
        return
    report_progress(f"writing {cohort['subjects']} synthetic brains into {root}, once")
    voxel = cohort["voxel"]
    write_cohort(root / "source", subjects=cohort["subjects"], voxel=voxel, workers=None)
    x, y, z = (n // voxel for n in T88_SHAPE)
    steps = Steps(spacing=float(voxel), shape=(x, y, z))
    prepare(root / "source", root, steps=steps, execution=Execution(progress=False))


def classified(outcome: Outcome, options: Config) -> tuple[list[Trial], Task, dict[str, float]]:
    """Return the trials of App. C.3 on the data of a run, their task, and the atrophy of each session if it is known.

    The probabilities of finished classifiers are kept beside the run's model, and read again.
    """
    from tqdm import tqdm

    config = outcome.cell.configs[TRAINED]
    design, shrink = _read_design(options)
    task = task_of(read_cohort(config["data"]), shrink)
    cache = outcome.model_file.parent / "classifiers"
    trials = augmentation_study(task, design, device=choose_device(config["device"]), cache=cache)
    return list(tqdm(trials, unit=" classifiers", mininterval=20)), task, read_truth(Path(config["data"]["root"]))


def read_truth(root: Path) -> dict[str, float]:
    """Return the atrophy of each session of a synthetic cohort below `root`, nothing for other data."""
    path = root / "source" / "ground_truth.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: float(row["atrophy"]) for row in csv.DictReader(file)}


def _read_design(options: Mapping[str, Any]) -> tuple[Design, int]:
    """Return the design and the factor `shrink` of the options `classifier` of a study.

    Raises:
        ConfigError: for an unknown option.
        ValueError: for a value that cannot be.
    """
    names = [*(field.name for field in fields(Design)), "shrink"]
    wrong = [name for name in options if name not in names]
    if wrong:
        raise ConfigError(f"unknown option {wrong[0]!r} of `classifier`; valid are {', '.join(names)}")
    return Design(**{name: value for name, value in options.items() if name != "shrink"}), options.get("shrink", 1)
