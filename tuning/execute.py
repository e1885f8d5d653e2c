"""A fixed list of runs on a Ray cluster, each in its own MLflow run below one parent.

    with connected("local"):
        outcomes = execute({"vae": Task(config), "ae": Task(other)}, tracker, storage="/abs/folder")

`outcomes[name]` is an `experiments.judge.Result` or a `Failure`. After a crash the same call, with a tracker of the
same parent run and the same storage, resumes the same MLflow runs, each from its last checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.judge import Result
from geovae.tracking import MlflowTracker
from tuning.engine import OnEvent, engine_for
from tuning.nodes import Resources
from tuning.plan import Failure, Run, Task
from tuning.runs import RunStore


def execute(
    tasks: Mapping[str, Task],
    tracker: MlflowTracker,
    *,
    storage: str | Path,
    resources: Resources,
    on_event: OnEvent | None = None,
) -> dict[str, Result | Failure]:
    """Run every task, by run name, as a child of `tracker`, on the cluster that `connected` has reached.

    `storage` is an absolute folder that all nodes see, or a URI; `on_event` a callback for a progress display.

    Raises:
        ClusterError: if no node has the resources.
    """
    engine = engine_for(tracker, str(storage), resources, group="mlflow.parentRunId")
    queue = _TaskQueue(tasks, engine.runs)
    try:
        engine.run(queue, on_event=on_event)
    finally:  # also after an interrupt, for the records of the runs that ended before
        engine.flush([task.folder or name for name, task in tasks.items()])
    not_begun = Run(state="KILLED", reason="the time was over before it began")
    ends = {name: queue.ends.get(name, not_begun) for name in tasks}
    return {name: run.result or Failure(run.state, run.reason) for name, run in ends.items()}


@dataclass(frozen=True)
class _NamedTask:
    name: str
    task: Task


class _TaskQueue:
    """The engine's queue: the tasks in their order."""

    def __init__(self, tasks: Mapping[str, Task], runs: RunStore) -> None:
        self.waiting = [_NamedTask(name, task) for name, task in tasks.items()]
        self.runs, self.run_ids = runs, runs.run_ids()
        self.ends: dict[str, Run] = {}
        self.n_live = 0

    @property
    def finished(self) -> bool:
        return not self.waiting and not self.n_live

    def next(self) -> _NamedTask | None:
        if not self.waiting:
            return None
        self.n_live += 1
        return self.waiting.pop(0)

    def requeue(self, trial: _NamedTask) -> None:
        self.n_live -= 1
        self.waiting.insert(0, trial)  # first, since its checkpoint and its MLflow run exist

    def task(self, trial: _NamedTask) -> dict[str, Any]:
        task = trial.task
        # the model file belongs to the run that trained it; a run that only draws from it keeps none
        judged = {"model_file": task.model_file, "keep": False} if task.model_file else {}
        return {"config": task.config, "folder": task.folder or trial.name, **judged}

    def mutable_options(self, trial: _NamedTask) -> dict[str, Any]:
        return {}

    def start_run(self, trial: _NamedTask) -> str:
        if run_id := self.run_ids.get(trial.name):  # of an earlier call, which died
            return self.runs.reopen_run(run_id)
        return self.runs.start_run(trial.name, None, {"role": "run", **trial.task.tags})

    def on_trial_start(self, trial: _NamedTask, run_id: str) -> None:
        self.run_ids[trial.name] = run_id

    def on_trial_end(self, trial: _NamedTask, run: Run) -> None:
        self.n_live -= 1
        self.ends[trial.name] = run
