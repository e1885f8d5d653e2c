"""What a Ray worker does: one run in one thread, an epoch at a time, told to MLflow by the run itself.

Ray asks for one epoch after the other (`step`), so that a scheduler can stop the run between two of them. A run that
raises fails alone: it reports why, and Ray sees a trial that ended.
"""

import json
import os
import queue
import shutil
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ray import tune

from experiments.config import Config, flatten, resolve
from experiments.describe import describe_run
from experiments.judge import Result, rejudge
from experiments.run import CHECKPOINT, plan_run, run
from geovae import checkpoint
from geovae.tracking import MlflowTracker
from geovae.training import EpochRecord
from tuning.place import Place

SCHEDULED = "scheduled"  # the number that a scheduler compares, with `epoch` as its time


class Stopped(Exception):
    """The scheduler wants no further epoch."""


@dataclass(frozen=True)
class Shared:
    """What all trials of a sweep have in common; it travels by Ray's object store, and into no log.

    `watched` is the metric of an epoch that the scheduler compares. `cwd` is where the driver works: a node that sees
    this folder works there, too, so that relative paths mean the same.
    """

    uri: str
    experiment_id: str
    storage: str
    watched: str = "val/loss"
    close_timeout: float = 120.0
    commit: str = ""
    cwd: str = ""


class Trial(tune.Trainable):
    """One run of a configuration with a seed.

    `config` holds `task` (name, folder, run_id, config, and model_file for judging without training) and, from
    population based training, options under their dotted names that replace the task's.
    """

    _thread: threading.Thread | None
    _go_on: threading.Semaphore

    def setup(self, config: dict[str, Any], shared: Shared) -> None:  # type: ignore[override]
        """Take a task; the run starts with the first `step`, since Ray may bring a checkpoint before."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ["TQDM_DISABLE"] = "1"  # one bar for each of many processes tells nobody anything
        if shared.commit:
            os.environ["GEOVAE_COMMIT"] = shared.commit
        if shared.cwd and Path(shared.cwd).is_dir():
            os.chdir(shared.cwd)
        self._shared = shared
        self._begin(config)

    def step(self) -> dict[str, Any]:
        """Return what the next epoch, or the end of the run, brought."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="run", daemon=True)
            self._thread.start()
        else:
            self._go_on.release()
        return self._reports.get()

    def cleanup(self) -> None:
        """End the run, if it has not ended; what it said is delivered."""
        self._stopping = True
        self._go_on.release()
        if self._thread is not None:
            self._thread.join()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Do the next task in this process: importing everything again would take longer than many runs."""
        self.cleanup()
        self._begin(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Copy the run's checkpoint, for population based training."""
        folder, _ = self._place
        shutil.copy(folder / CHECKPOINT, Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
        """Go on from another run's checkpoint, in population based training."""
        folder, _ = self._place
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(checkpoint_dir) / CHECKPOINT, folder / CHECKPOINT)

    def _begin(self, config: dict[str, Any]) -> None:
        self._task = dict(config.get("task") or {})
        self._changed = {name: value for name, value in config.items() if name != "task"}
        self._place = Place(self._shared.storage).folder(self._task["folder"])
        self._thread = None
        self._reports: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._go_on = threading.Semaphore(0)
        self._stopping = False

    def _work(self) -> None:
        try:
            result = do(self._task, self._changed, self._place, self._shared, self._report)
        except Stopped:
            return
        except BaseException as error:  # whatever it is, it is this run's alone
            self._reports.put({"done": True, "state": "FAILED", "reason": reason(error)})
            return
        self._reports.put({"done": True, "state": "FINISHED", "result": as_json(result), "changed": self._changed})

    def _report(self, record: EpochRecord) -> None:
        losses = {f"train/{k}": v for k, v in record.train.items()} | {f"val/{k}": v for k, v in record.val.items()}
        watched = losses.get(self._shared.watched)
        if watched is None:
            raise ValueError(f"no metric {self._shared.watched!r} in an epoch; it has {', '.join(losses)}")
        compared = {SCHEDULED: watched} if self._task.get("compared", True) else {}
        self._reports.put({"epoch": record.epoch, "watched": watched, **compared})
        self._go_on.acquire()
        if self._stopping:
            raise Stopped


def do(task: Config, changed: Config, place: tuple[Path, bool], shared: Shared, report: Any) -> Result:
    """Train, or judge again, what `task` says, in the MLflow run that it names."""
    folder, begun = place
    config: Config = task["config"]
    news = {name: value for name, value in changed.items() if flatten(config)[name] != value}
    kept, mine = Place(shared.storage), task["folder"]

    def on_epoch(record: EpochRecord) -> None:
        if kept.remote:  # what was said of an epoch must not be lost with this node when its checkpoint is not
            tracker.flush(shared.close_timeout)
        kept.keep(mine, folder / CHECKPOINT)
        report(record)

    with MlflowTracker(
        folder,
        run_id=task["run_id"],
        experiment_id=shared.experiment_id,
        tracking_uri=shared.uri,
        close_timeout=shared.close_timeout,
        continued=begun,
    ) as tracker:
        describe_run(task["name"], config, tracker, folder)
        if news:
            config = resolve(flatten(config) | news, prog="trial")
            _track_changes(tracker, news, folder / CHECKPOINT)
        kept.keep(mine, folder / "config.yaml")
        if task.get("model_file"):
            model = _model_file(task["model_file"], folder)
            result = rejudge(model, config, output=folder, tracker=tracker, keep=task.get("keep", True))
        else:
            result = run(plan_run(config), output=folder, tracker=tracker, on_epoch=on_epoch)
        tracker.tags({"headline": result.headline})
        kept.keep(mine, result.model_file)
    return result


def _track_changes(tracker: MlflowTracker, news: Config, file: Path) -> None:
    """Record the options that population based training has changed, at the epoch after which they count."""
    epoch = len(checkpoint.load(file)[1]["state"]["history"]) if file.exists() else 0
    numbers = {name: value for name, value in news.items() if isinstance(value, int | float)}
    tracker.metrics({f"changed/{name}": float(value) for name, value in numbers.items()}, step=epoch)
    tracker.tags({"changed": json.dumps(news)})


def _model_file(where: str, folder: Path) -> Path:
    """Return the trained model on this node, fetched if it lies in an object store."""
    if "://" not in where:
        return Path(where)
    root, _, name = where.rpartition("/")
    file = folder / "trained.safetensors"
    if not Place(root).fetch(name, file):
        raise FileNotFoundError(f"no trained model at {where}")
    return file


def as_json(result: Result) -> dict[str, Any]:
    """Return a result as plain data."""
    return asdict(result) | {"model_file": str(result.model_file)}


def as_result(plain: dict[str, Any]) -> Result:
    """Return the result that `as_json` took apart."""
    return Result(**(plain | {"model_file": Path(plain["model_file"])}))


def reason(error: BaseException) -> str:
    """Return why a run failed, in one line."""
    text = " ".join(str(error).split())[:1000]
    words = ("out of memory", "not enough memory", "allocate memory")
    if isinstance(error, MemoryError) or any(word in text.lower() for word in words):
        return f"out of memory: {text or 'the process could not get more'}"
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
