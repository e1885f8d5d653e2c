"""A fixed list of runs on a Ray cluster, each in its own MLflow run below one parent.

    with connected("local"):
        outcomes = execute({"vae": Task(config), "ae": Task(other)}, tracker, storage="/abs/folder")

`outcomes[name]` is an `experiments.judge.Result`, or a `Failure` with the reason. The same call after a crash, with a
tracker of the same parent run and the same storage, goes on in the same MLflow runs, each from its last checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.config import Config
from experiments.describe import git_tags
from experiments.judge import Result
from geovae.tracking import MlflowTracker
from tuning.engine import Engine, Watch, finish
from tuning.nodes import check_resources
from tuning.plan import Run
from tuning.store import Store
from tuning.trial import Shared, as_result


@dataclass(frozen=True)
class Task:
    """One run: a resolved configuration, and what belongs to the run beside it.

    `model_file` is a trained model to draw from and judge instead of training. `folder` is where below the storage the
    run keeps its files (by default its name): whoever finds a checkpoint there goes on from it. `tags` join the run's.
    """

    config: Config
    model_file: str | None = None
    folder: str = ""
    tags: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why a run has no result."""

    state: str
    reason: str


def execute(
    tasks: Mapping[str, Task],
    tracker: MlflowTracker,
    *,
    storage: str | Path,
    cpus: float = 1,
    gpus: float = 0,
    concurrency: int | None = None,
    max_failures: int = 3,
    watch: Watch | None = None,
) -> dict[str, Result | Failure]:
    """Run every task as a child of `tracker`, on the cluster that `connected` has reached.

    Args:
        tasks: by run name.
        tracker: of the parent run.
        storage: absolute folder that all nodes see, or a URI.
        cpus: for each run.
        gpus: for each run; a fraction shares one.
        concurrency: how many runs at once; by default as many as the cluster's resources allow.
        max_failures: how often a run starts again, from its checkpoint, after its process or node died.
        watch: hears events for a progress table.

    Raises:
        ClusterError: if no node has the resources.
    """
    assert tracker.run_id is not None
    assert tracker.experiment_id is not None
    fit = check_resources(cpus, gpus)
    store = Store(tracker.uri, tracker.experiment_id, tracker.run_id, group="mlflow.parentRunId")
    store.known = store.names()
    commit = git_tags().get("mlflow.source.git.commit", "")
    shared = Shared(store.uri, store.experiment_id, str(storage), commit=commit, cwd=str(Path.cwd()))
    jobs = _List(tasks, store)
    engine = Engine(
        jobs,
        store,
        shared,
        concurrency=min(concurrency or fit, fit),
        cpus=cpus,
        gpus=gpus,
        max_failures=max_failures,
        watch=watch,
    )
    try:
        engine.run()
    finally:
        finish(store, shared, [task.folder or name for name, task in tasks.items()])
    return {
        name: as_result(run.result) if run.state == "FINISHED" else Failure(run.state, run.reason)
        for name, run in ((name, jobs.ends[name]) for name in tasks)
    }


@dataclass(frozen=True)
class _Named:
    name: str
    task: Task


class _List:
    """The engine's jobs: one task after the other."""

    def __init__(self, tasks: Mapping[str, Task], store: Store) -> None:
        self.waiting = [_Named(name, task) for name, task in tasks.items()]
        self.store = store
        self.ends: dict[str, Run] = {}
        self.open_count = 0

    @property
    def finished(self) -> bool:
        return not self.waiting and not self.open_count

    def next(self) -> _Named | None:
        if not self.waiting:
            return None
        self.open_count += 1
        return self.waiting.pop(0)

    def task(self, job: _Named) -> dict[str, Any]:
        one = job.task
        # what a model is only drawn from for is not trained: its file has a run already
        judged = {"model_file": one.model_file, "keep": False} if one.model_file else {}
        return {"config": one.config, "folder": one.folder or job.name, **judged}

    def changeable(self, job: _Named) -> dict[str, Any]:
        return {}

    def open(self, job: _Named) -> str:
        known = self.store.known.get(job.name)
        return self.store.open(job.name, None, {"role": "run", **job.task.tags}, known=known)

    def opened(self, job: _Named, run_id: str) -> None:
        self.store.known[job.name] = run_id

    def tell(self, job: _Named, run: Run) -> None:
        self.open_count -= 1
        self.ends[job.name] = run

    def again(self, job: _Named) -> None:
        self.open_count -= 1
        self.waiting.insert(0, job)
