"""The engine: runs the trials of a queue with one `tune.Tuner`, restarts those that died, and ends their MLflow runs.

`tuning.execute` gives it a list of runs, `tuning.sweep` the trials that a search proposes.
"""

import os
import shlex
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from experiments.describe import git_tags
from experiments.judge import Result
from geovae.tracking import MlflowTracker, UndeliveredWarning, sync
from tuning.nodes import Resources, check_resources
from tuning.plan import Run
from tuning.runs import RunStore
from tuning.storage import Storage
from tuning.worker import Worker, WorkerContext

# An event ("trial_start", "trial_result", "trial_end" or "step") with its details by name.
OnEvent = Callable[[str, Mapping[str, Any]], None]


class TrialQueue(Protocol):
    """Where the engine gets its trials. A trial is any object with a unique `name`."""

    @property
    def finished(self) -> bool:
        """Whether no trial runs or waits, and none will be proposed."""

    def next(self) -> Any:
        """Return the next trial, None if there is none at the moment."""

    def requeue(self, trial: Any) -> None:
        """Put back a trial whose process died; it starts again as a new trial of Ray's."""

    def task(self, trial: Any) -> dict[str, Any]:
        """Return the worker's task: `config`, and optionally `folder`, `model_file`, `keep`, `compared`."""

    def mutable_options(self, trial: Any) -> dict[str, Any]:
        """Return the options that population based training may change while the trial runs."""

    def start_run(self, trial: Any) -> str:
        """Create or reopen the trial's MLflow run and return its id. Called in the writer thread."""

    def on_trial_start(self, trial: Any, run_id: str) -> None:
        """Called once the trial's MLflow run is open."""

    def on_trial_end(self, trial: Any, run: Run) -> None:
        """Called with the outcome of a trial."""


@dataclass
class _TrialRecord:
    """What the engine knows of a trial; kept when the trial is requeued, so that its restarts are counted.

    `place` is the node and process of its last report. `restarting` is set from a death until the next report: Ray may
    report one death twice.
    """

    trial: Any
    run_id: str = ""
    place: str = ""
    restarts: int = 0
    restarting: bool = False


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived."""


class Engine(tune.Callback):
    """Runs queues of trials on the cluster that Ray is connected to. It is Tune's callback: Tune calls `on_...`.

    `runs` are the trials' MLflow runs, `worker` is the trainable, to which `context` is passed.
    """

    def __init__(
        self, runs: RunStore, context: WorkerContext, resources: Resources, worker: type[Worker] = Worker
    ) -> None:
        self.runs, self.context, self.resources, self.worker = runs, context, resources, worker
        self.queue: TrialQueue
        self.on_event: OnEvent = lambda event, details: None
        self.live: dict[str, _TrialRecord] = {}  # by Ray's trial id
        self._records: dict[str, _TrialRecord] = {}  # by name
        self._starting: tuple[Any, Future[str]] | None = None  # the next trial, while its MLflow run is created
        self._concurrency = resources.concurrency or 1
        self._signal: int | None = None  # the signal that arrived

    def __reduce__(self) -> Any:
        # Ray pickles callbacks into its experiment state. Nothing reads it back, and the engine holds a client.
        return (tune.Callback, ())

    def run(
        self,
        queue: TrialQueue,
        *,
        scheduler: TrialScheduler | None = None,
        concurrency: int | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        """Run trials until the queue is finished, the time budget is over, or the user interrupts; end all MLflow runs.

        The `scheduler` compares `SCHEDULED` by `epoch`. `concurrency` is by default that of the resources.
        """
        self.queue, self.on_event = queue, on_event or self.on_event
        self._concurrency = concurrency or self._concurrency
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self._concurrency)
        reason = "time budget"
        try:
            with self._deferred_signals():
                self._tuner(scheduler).fit()
        except BaseException:
            reason = "interrupted"
            raise
        finally:
            for trial_id in list(self.live):
                self._end(trial_id, Run(state="KILLED", reason=reason))

    def flush(self, folders: Sequence[str], patience: float = 300.0) -> bool:
        """Deliver everything that waits for the tracking store, and what dead workers left in `folders` of the storage.

        Returns whether all of it arrived within `patience` seconds. If not, a warning names the commands for later.
        """
        deadline = time.monotonic() + patience
        arrived = self.runs.flush(patience)
        storage = self.context.storage
        local = [] if Storage(storage).remote else [Path(storage) / folder for folder in folders]
        outboxes = [outbox for folder in local for outbox in sorted(folder.glob("outbox*/"))]
        arrived = all(_sync(outbox, self.runs.uri, deadline) for outbox in outboxes) and arrived
        if not arrived:
            warnings.warn(
                f"the tracking store did not answer for {patience:.0f} s; all records are kept. Once it answers, run "
                f"python -m mlflow_projects.sync {shlex.quote(storage)}, and reap for runs that are still RUNNING",
                UndeliveredWarning,
            )
        return arrived

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the configuration of the next trial, None if there is none now, `Searcher.FINISHED` after the last."""
        if self._starting is None:
            if len(self.live) >= self._concurrency:
                return None
            trial = self.queue.next()
            if trial is None:
                return Searcher.FINISHED if self.queue.finished else None
            self._starting = trial, self.runs.submit(self.queue.start_run, trial)
        trial, run_id = self._starting
        if wait([run_id], timeout=1.0).not_done:  # the store does not answer; running trials must not wait for it
            return None
        self._starting = None
        record = self._records.setdefault(trial.name, _TrialRecord(trial))
        record.run_id, record.place, record.restarting = run_id.result(), "", False
        self.live[trial_id] = record
        self.queue.on_trial_start(trial, record.run_id)
        self.on_event("trial_start", {"trial": trial})
        task = {"folder": trial.name} | self.queue.task(trial) | {"name": trial.name, "run_id": record.run_id}
        return {"task": task, **self.queue.mutable_options(trial)}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Report an epoch, or the end of a trial; log where it runs if that is new."""
        if (record := self.live.get(trial.trial_id)) is None:
            return
        record.restarting = False
        self.on_event("trial_result", {"trial": record.trial, "result": result})
        place = f"{result.get('hostname')} {result.get('node_ip')} {result.get('pid')}"
        if record.place != place:
            record.place = place
            job = str(ray.get_runtime_context().get_job_id())
            tags: dict[str, object] = {"ray.trial_id": trial.trial_id, "ray.node": place, "ray.job": job}
            tags |= {"restarts": record.restarts} if record.restarts else {}
            self.runs.submit(self.runs.log, record.run_id, tags=tags)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """End a trial that finished or failed by itself, or that the scheduler stopped."""
        if trial.trial_id in self.live:
            self._end(trial.trial_id, _outcome(trial.last_result or {}))

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Count a restart: the process or node of a trial died, and Ray starts it again."""
        record = self.live.get(trial.trial_id)
        if record is not None and not record.restarting:
            record.restarting = True
            record.restarts += 1

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Retry a trial that Ray gave up because its process died between two trials; otherwise end it as failed."""
        if (record := self.live.get(trial.trial_id)) is None:
            return
        if trial.should_recover():
            self.on_trial_recover(iteration, trials, trial)
            if record.restarts <= self.resources.max_failures:
                del self.live[trial.trial_id]
                self.queue.requeue(record.trial)
                return
        self._end(trial.trial_id, Run(state="FAILED", reason=_failure(trial)))

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Called after each step of Tune's event loop.

        Raises:
            Interrupted: after a signal.
        """
        if self._signal is not None:
            raise Interrupted(signal.Signals(self._signal).name)
        self.on_event("step", {})

    def _end(self, trial_id: str, run: Run) -> None:
        record = self.live.pop(trial_id)
        run.run_id = record.run_id
        tags = {"stop_reason": run.reason} if run.state in ("STOPPED", "KILLED") else {}
        tags |= {"failure": run.reason, "mlflow.note.content": f"Failed: {run.reason}"} if run.state == "FAILED" else {}
        self.runs.submit(self.runs.end_run, record.run_id, run.state, tags=tags)
        self.queue.on_trial_end(record.trial, run)
        self.on_event("trial_end", {"trial": record.trial, "run": run})

    @contextmanager
    def _deferred_signals(self) -> Iterator[None]:
        """Raise SIGINT and SIGTERM only after Tune has ended its workers, which then can still deliver their records.

        A second signal is raised at once.
        """
        if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
            yield
            return

        def defer(number: int, frame: object) -> None:
            if self._signal is not None:
                signal.signal(number, handlers[number])
                signal.raise_signal(number)
            self._signal = number

        found: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        # a shell starts commands in the background (`&` in a script) with SIGINT ignored: that stays
        handlers = {number: handler for number, handler in found.items() if handler != signal.SIG_IGN}
        for number in handlers:
            signal.signal(number, defer)
        try:
            yield
        except Exception:
            if self._signal is None:
                raise
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self._signal is not None:
            signal.raise_signal(self._signal)
            raise Interrupted(signal.Signals(self._signal).name)  # its handler returned, but the trials have ended

    def _tuner(self, scheduler: TrialScheduler | None) -> tune.Tuner:
        trainable = tune.with_parameters(self.worker, context=self.context)
        return tune.Tuner(
            tune.with_resources(trainable, {"cpu": self.resources.cpus, "gpu": self.resources.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=_QueueSearcher(self),
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,  # a new process imports torch and mlflow again, which takes seconds
                time_budget_s=self.resources.time_budget,
                trial_name_creator=lambda trial: trial.config["task"]["name"],
                trial_dirname_creator=lambda trial: f"{trial.config['task']['name']}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=self.context.storage,
                failure_config=tune.FailureConfig(max_failures=self.resources.max_failures),
                callbacks=[self],
                # only population based training saves checkpoints through Ray, to copy them between trials
                checkpoint_config=tune.CheckpointConfig(num_to_keep=4, checkpoint_at_end=False),
                verbose=0,
            ),
        )


class _QueueSearcher(Searcher):
    """Tune's search algorithm as a queue: Tune asks for trials one at a time, and the engine decides which."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(metric=None, mode=None)
        self._engine = engine

    def __reduce__(self) -> Any:
        return (Searcher, ())  # see `Engine.__reduce__`

    def suggest(self, trial_id: str) -> Any:
        return self._engine.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing: `Engine.on_trial_complete` gets the same event."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the state is in MLflow."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: nothing was saved."""


def engine_for(
    tracker: MlflowTracker, storage: str, resources: Resources, *, group: str = "sweep", watched: str = "val/loss"
) -> Engine:
    """Return an engine for the cluster that Ray is connected to, with MLflow runs below that of `tracker`.

    `storage` is an absolute folder that all nodes see, or a URI. The tag `group` of each run holds the parent's id.
    `watched` is the metric of an epoch that a scheduler compares.

    Raises:
        ClusterError: if no node has the resources.
        ValueError: if the tracker's run does not exist yet.
    """
    if tracker.run_id is None or tracker.experiment_id is None:
        raise ValueError("the parent run does not exist yet: give `tracker` a `run_id`, or start the tracking server")
    runs = RunStore(tracker.uri, tracker.experiment_id, tracker.run_id, group)
    commit, cwd = git_tags().get("mlflow.source.git.commit", ""), str(Path.cwd())
    context = WorkerContext(runs.uri, runs.experiment_id, storage, watched=watched, commit=commit, cwd=cwd)
    return Engine(runs, context, check_resources(resources))


def _outcome(result: Mapping[str, Any]) -> Run:
    """Return the outcome of a trial from its last report."""
    if result.get("state") == "FINISHED":
        found: Result = result["result"]
        val = found.val_scores[found.best_sampler]
        test = found.test_scores.get(found.best_sampler, {})
        return Run(
            state="FINISHED",
            score=val[found.headline],
            result=found,
            changed=result["changed"],
            test_scores=test,
            novelty=val.get("code_novelty"),
        )
    if result.get("state") == "FAILED":
        return Run(state="FAILED", reason=result["reason"])
    return Run(state="STOPPED", reason=f"scheduler, at epoch {result.get('epoch', 0)}")


def _failure(trial: Any) -> str:
    """Return in one line why Ray gave a trial up."""
    text = str(trial.get_error() or trial.get_pickled_error() or "its process died")
    if "OutOfMemory" in text or "memory pressure" in text:
        return "out of memory: Ray's memory monitor killed the process; give trials more memory or run fewer at once"
    last = " ".join(line.strip() for line in text.splitlines() if line.strip())
    return f"the process or its node died on every attempt: {last[-500:]}"


def _sync(outbox: Path, uri: str, deadline: float) -> bool:
    """Deliver what a dead worker left in its outbox; return whether the store took it before the deadline."""
    while (outbox / "records.jsonl").exists():
        try:
            sync(outbox, uri)
        except FileNotFoundError:  # the run delivered it meanwhile
            break
        except Exception:
            if time.monotonic() > deadline:
                return False
            time.sleep(1)
    return True
