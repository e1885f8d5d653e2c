"""The worker: a Ray actor that does one run in a thread and reports each epoch; the run itself logs to MLflow.

Ray asks for one epoch at a time (`step`), so that a scheduler can stop the run between two epochs. A run that raises
fails alone: the worker reports the reason, and Ray sees a trial that ended. Why not Ray's function API (`tune.report`):
it ends a stopped function without waiting for `finally`, and the run would lose records that it has not delivered.
"""

import json
import os
import queue
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from experiments.config import Config, flatten, resolve
from experiments.describe import describe_run
from experiments.judge import Result, rejudge
from experiments.run import CHECKPOINT, plan_run, run
from geovae import checkpoint
from geovae.devices import limit_memory
from geovae.tracking import MlflowTracker
from geovae.training import EpochRecord
from tuning.storage import CONFIG, Storage

SCHEDULED = "scheduled"  # the key of a report that a scheduler compares, with `epoch` as its time


class Stopped(Exception):
    """The scheduler stopped the trial."""


@dataclass(frozen=True)
class WorkerContext:
    """What all workers of a sweep share. It travels through Ray's object store, so that no log shows it."""

    uri: str
    experiment_id: str
    storage: str
    watched: str = "val/loss"  # the metric of an epoch that a scheduler compares
    close_timeout: float = 120.0  # limit, in seconds, for the delivery of a run's last records
    commit: str = ""  # of the driver's code, since nodes have no repository
    cwd: str = ""  # of the driver; workers change into it if it exists, so that relative paths mean the same files


class Worker(tune.Trainable):
    """Runs one task after the other.

    `config` holds the `task` (name, folder, run_id, config, and model_file to judge a trained model) and, for
    population based training, options by their dotted names that replace those of the task.
    """

    _thread: threading.Thread | None

    def setup(self, config: dict[str, Any], context: WorkerContext) -> None:  # type: ignore[override]  # with_parameters
        """Prepare the process and accept the first task."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ["GEOVAE_QUIET"] = "1"  # progress bars of many processes would overwrite each other
        if context.commit:
            os.environ["GEOVAE_COMMIT"] = context.commit
        if context.cwd and Path(context.cwd).is_dir():
            os.chdir(context.cwd)
        if self.trial_resources:  # by Ray
            limit_memory(self.trial_resources.required_resources.get("GPU", 0.0))
        self._context = context
        self._accept(config)

    def step(self) -> dict[str, Any]:
        """Continue the run to the end of the next epoch, or to its own end, and return the report.

        The run starts here and not in `setup`: population based training loads a checkpoint in between.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="run", daemon=True)
            self._thread.start()
        else:
            self._next_epoch.release()
        return self._reports.get()

    def cleanup(self) -> None:
        """Stop the run if it has not ended, and wait until its records are delivered."""
        self._stopping = True
        self._next_epoch.release()
        if self._thread is not None:
            self._thread.join()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Accept the next task in this process, which saves the imports of a new one."""
        self.cleanup()
        self._accept(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Copy the run's checkpoint for another member of the population."""
        shutil.copy(self._folder / CHECKPOINT, Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]  # Ray's type allows dicts, too
        """Replace the run's checkpoint with that of another member of the population."""
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(checkpoint_dir) / CHECKPOINT, self._folder / CHECKPOINT)

    def _accept(self, config: dict[str, Any]) -> None:
        self._task = dict(config.get("task") or {})
        self._changed = {name: value for name, value in config.items() if name != "task"}
        self._folder, self._resumed = Storage(self._context.storage).run_folder(self._task["folder"])
        self._thread = None
        self._reports: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._next_epoch = threading.Semaphore(0)
        self._stopping = False

    def _work(self) -> None:
        try:
            result = self.work()  # Ray pickles it on its way to the driver
        except Stopped:
            return
        except BaseException as error:  # even SystemExit ends this run only, not the worker
            self._reports.put({"done": True, "state": "FAILED", "reason": reason(error)})
            return
        self._reports.put({"done": True, "state": "FINISHED", "result": result, "changed": self._changed})

    def work(self) -> Any:
        """Do the task and return its result."""
        return run_task(self._task, self._changed, self._folder, self._resumed, self._context, self._report)

    def _report(self, record: EpochRecord) -> None:
        losses = {f"train/{k}": v for k, v in record.train.items()} | {f"val/{k}": v for k, v in record.val.items()}
        watched = losses.get(self._context.watched)
        if watched is None:
            raise ValueError(f"no metric {self._context.watched!r} in an epoch; it has {', '.join(losses)}")
        self.report(record.epoch, watched, compared=self._task.get("compared", True))

    def report(self, epoch: int, watched: float, compared: bool = True) -> None:
        """Report an epoch to Ray, and wait until Ray asks for the next.

        Raises:
            Stopped: if Ray does not want another epoch.
        """
        epochs = self._task["config"]["training"]["epochs"]
        scheduled = {SCHEDULED: watched} if compared else {}
        self._reports.put({"epoch": epoch, "epochs": epochs, "watched": watched, **scheduled})
        self._next_epoch.acquire()
        if self._stopping:
            raise Stopped


def run_task(
    task: Config,
    changed: Config,
    folder: Path,
    resumed: bool,
    context: WorkerContext,
    on_epoch: Callable[[EpochRecord], None],
) -> Result:
    """Train and judge a model, or judge a trained one, in the MLflow run that the task (see `Worker`) names.

    `changed` are options that population based training has changed, `folder` is the run's on this node, and `resumed`
    whether it has been started before. `on_epoch` is called once the epoch's checkpoint is in the storage.
    """
    storage, name = Storage(context.storage), task["folder"]

    def upload_and_report(record: EpochRecord) -> None:
        if storage.remote:  # metrics first: a resume repeats no epoch of the checkpoint, so they would be lost
            tracker.flush(context.close_timeout)
        storage.upload(name, folder / CHECKPOINT)
        on_epoch(record)

    with MlflowTracker(
        folder,
        run_id=task["run_id"],
        experiment_id=context.experiment_id,
        tracking_uri=context.uri,
        close_timeout=context.close_timeout,
        continued=resumed,
    ) as tracker:
        describe_run(task["name"], task["config"], tracker, folder)
        config = _apply_changes(task["config"], changed, folder / CHECKPOINT, tracker)
        storage.upload(name, folder / CONFIG)
        if task.get("model_file"):
            model = _download_model(task["model_file"], folder)
            result = rejudge(model, config, output=folder, tracker=tracker, keep=task.get("keep", True))
        else:
            result = run(plan_run(config), output=folder, tracker=tracker, on_epoch=upload_and_report)
        tracker.tags({"headline": result.headline})
        storage.upload(name, result.model_file)
    return result


def _apply_changes(config: Config, changed: Config, checkpoint_file: Path, tracker: MlflowTracker) -> Config:
    """Return the configuration with the options that the population changed; log the changes."""
    flat = flatten(config)
    new = {name: value for name, value in changed.items() if flat[name] != value}
    if not new:
        return config
    epoch = len(checkpoint.load(checkpoint_file)[1]["state"]["history"]) if checkpoint_file.exists() else 0
    numbers = {name: value for name, value in new.items() if isinstance(value, int | float)}
    tracker.metrics({f"changed/{name}": float(value) for name, value in numbers.items()}, step=epoch)
    tracker.tags({"changed": json.dumps(new)})
    return resolve(flat | new, prog="trial")


def _download_model(location: str, folder: Path) -> Path:
    """Return the path of a trained model on this node, downloaded if the location is a URI."""
    if "://" not in location:
        return Path(location)
    root, _, name = location.rpartition("/")
    file = folder / "trained.safetensors"
    if not Storage(root).download(name, file):
        raise FileNotFoundError(f"no trained model at {location}")
    return file


def reason(error: BaseException) -> str:
    """Return in one line why a run failed."""
    text = " ".join(str(error).split())[:1000]
    words = ("out of memory", "not enough memory", "allocate memory")
    if isinstance(error, MemoryError) or any(word in text.lower() for word in words):
        return f"out of memory: {text or 'the process could not allocate more'}"
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
