"""The engine: takes jobs from whoever plans them, gives them to one `tune.Tuner`, and tells what became of each.

`tuning.execute` gives it a list of runs, `tuning.sweep` what a search proposes.
"""

import os
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from geovae.tracking import sync
from tuning.place import Place
from tuning.plan import Run
from tuning.store import Store
from tuning.trial import Shared, Trial


class Jobs(Protocol):
    """Where the engine's work comes from."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing to do any more."""

    def next(self) -> Any:
        """Return the next job (with a `name`), None if there is none now."""

    def task(self, job: Any) -> dict[str, Any]:
        """Return what the worker does: `config`, and if need be `folder`, `model_file`, `keep` or `compared`."""

    def changeable(self, job: Any) -> dict[str, Any]:
        """Return the options that population based training may change while the job runs."""

    def open(self, job: Any) -> str:
        """Return the id of the job's MLflow run, made in the writing thread."""

    def opened(self, job: Any, run_id: str) -> None:
        """Hear the id."""

    def tell(self, job: Any, run: Run) -> None:
        """Hear what became of a job."""

    def again(self, job: Any) -> None:
        """Take a job back that lost its process before it began."""


class Interrupted(Exception):
    """A signal came."""


Watch = Callable[[str, Mapping[str, Any]], None]


class Engine:
    """One `tune.Tuner` over the jobs of a plan.

    Args:
        jobs: the work.
        store: of the sweep.
        shared: what the trials have in common.
        concurrency: how many run at once at most.
        cpus: for each trial.
        gpus: for each trial; a fraction shares one.
        max_failures: how often a trial starts again after its process or node died.
        time_budget: seconds after which everything is stopped.
        scheduler: of Ray Tune, comparing `SCHEDULED` by `epoch`.
        watch: hears events (`start`, `epoch`, `end`, `step`) for a progress table.
        trainable: what a worker does.
    """

    def __init__(
        self,
        jobs: Jobs,
        store: Store,
        shared: Shared,
        *,
        concurrency: int,
        cpus: float = 1,
        gpus: float = 0,
        max_failures: int = 3,
        time_budget: float | None = None,
        scheduler: TrialScheduler | None = None,
        watch: Watch | None = None,
        trainable: type[Trial] = Trial,
    ) -> None:
        self.trainable = trainable
        self.jobs, self.store, self.shared = jobs, store, shared
        self.concurrency, self.resources = concurrency, {"cpu": cpus, "gpu": gpus}
        self.max_failures, self.time_budget, self.scheduler = max_failures, time_budget, scheduler
        self.watch = watch or (lambda event, about: None)
        self.live: dict[str, tuple[Any, str]] = {}  # Ray's trial id: job, MLflow run id
        self.restarts: Counter[str] = Counter()  # by job
        self._places: dict[str, str] = {}
        self._mourned: set[str] = set()  # trials that died and have not reported since
        self._opening: tuple[Any, Future[str]] | None = None
        self.signal: int | None = None  # that came

    def run(self) -> None:
        """Work until the plan is finished, the time is over, or the user interrupts; no job is left without an end."""
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self.concurrency)
        reason = "time budget"
        try:
            with self._stopping_gently():
                self._tuner().fit()
        except BaseException:
            reason = "interrupted"
            raise
        finally:
            for trial_id in list(self.live):
                self.end(trial_id, Run(state="KILLED", reason=reason))

    @contextmanager
    def _stopping_gently(self) -> Iterator[None]:
        """Let Tune end its workers when SIGINT or SIGTERM comes, before the signal does what it does elsewhere.

        Tune gives them some seconds to deliver what they have to tell, and ends them.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: object) -> None:
            if self.signal is not None:  # the user has no patience
                signal.signal(number, before[number])
                signal.raise_signal(number)
            self.signal = number

        before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, stop)
        try:
            yield
        except Exception:
            if self.signal is None:
                raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.signal is not None:
            signal.raise_signal(self.signal)

    def stepped(self) -> None:
        """Hear that Tune has been once round.

        Raises:
            Interrupted: after a signal.
        """
        if self.signal is not None:
            raise Interrupted(signal.Signals(self.signal).name)
        self.watch("step", {})

    def _tuner(self) -> tune.Tuner:
        trainable = tune.with_resources(tune.with_parameters(self.trainable, shared=self.shared), self.resources)
        return tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_Asker(self),
                scheduler=self.scheduler,
                num_samples=-1,
                reuse_actors=True,
                time_budget_s=self.time_budget,
                trial_name_creator=lambda trial: trial.config["task"]["name"],
                trial_dirname_creator=lambda trial: f"{trial.config['task']['name']}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=self.shared.storage,
                failure_config=tune.FailureConfig(max_failures=self.max_failures),
                callbacks=[_Ears(self)],
                # only population based training saves, when it copies a run
                checkpoint_config=tune.CheckpointConfig(num_to_keep=4, checkpoint_at_end=False),
                verbose=0,
            ),
        )

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's configuration; `Searcher.FINISHED` after the last, None if there is none now."""
        if self._opening is None:
            if len(self.live) >= self.concurrency:
                return None
            job = self.jobs.next()
            if job is None:
                return Searcher.FINISHED if self.jobs.finished else None
            self._opening = job, self.store.later(self.jobs.open, job)
        job, opening = self._opening
        if wait([opening], timeout=1.0).not_done:  # the store is away: running trials must not wait for it
            return None
        self._opening = None
        run_id = opening.result()
        self.jobs.opened(job, run_id)
        self.live[trial_id] = job, run_id
        self.watch("start", {"job": job})
        task = {"folder": job.name} | self.jobs.task(job) | {"name": job.name, "run_id": run_id}
        return {"task": task, **self.jobs.changeable(job)}

    def end(self, trial_id: str, run: Run) -> None:
        """Record what became of a trial's job, in MLflow and in the plan."""
        job, run_id = self.live.pop(trial_id)
        run.run_id = run_id
        tags = {"stop_reason": run.reason} if run.state in ("STOPPED", "KILLED") else {}
        tags |= {"failure": run.reason, "mlflow.note.content": f"Failed: {run.reason}"} if run.state == "FAILED" else {}
        self.store.later(self.store.end, run_id, run.state, tags)
        self.jobs.tell(job, run)
        self.watch("end", {"job": job, "run": run})

    def completed(self, trial_id: str, result: Mapping[str, Any] | None, error: str = "") -> None:
        """Hear from Ray that a trial ended: by itself, by the scheduler, or because it could not go on."""
        if trial_id not in self.live:
            return
        state = (result or {}).get("state")
        if error:
            run = Run(state="FAILED", reason=error)
        elif state == "FINISHED":
            assert result is not None
            plain = result["result"]
            best = min(scores[plain["headline"]] for scores in plain["val_scores"].values())
            run = Run(state="FINISHED", score=best, result=plain, changed=result["changed"])
        elif state == "FAILED":
            run = Run(state="FAILED", reason=(result or {})["reason"])
        else:
            run = Run(state="STOPPED", reason=f"scheduler, at epoch {(result or {}).get('epoch', 0)}")
        self.end(trial_id, run)

    def died(self, trial_id: str) -> None:
        """Hear that a trial lost its process or node, and starts again; Ray may say it twice of one death."""
        if trial_id in self.live and trial_id not in self._mourned:
            self._mourned.add(trial_id)
            self.restarts[self.live[trial_id][0].name] += 1

    def again(self, trial_id: str) -> bool:
        """Give a trial's job back, to be started as another trial; return whether it has not died too often."""
        job, _ = self.live[trial_id]
        self.died(trial_id)
        if self.restarts[job.name] > self.max_failures:
            return False
        del self.live[trial_id]
        self.jobs.again(job)
        return True

    def reported(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Hear of an epoch, or the end, of a trial; record where it runs when that is new."""
        if trial_id not in self.live:
            return
        self._mourned.discard(trial_id)
        job, run_id = self.live[trial_id]
        self.watch("epoch", {"job": job, "result": result})
        place = f"{result.get('hostname')} {result.get('node_ip')} {result.get('pid')}"
        if self._places.get(trial_id) != place:
            self._places[trial_id] = place
            tags: dict[str, object] = {"ray.trial_id": trial_id, "ray.node": place, "ray.job": _job_id()}
            tags |= {"restarts": count} if (count := self.restarts[job.name]) else {}
            self.store.later(self.store.describe, run_id, {}, tags)


class _Asker(Searcher):
    """Ray's way of asking for the next trial."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(metric=None, mode=None)
        self._engine = engine

    def __reduce__(self) -> Any:
        return (Searcher, ())  # Ray pickles it; nothing is ever read back

    def suggest(self, trial_id: str) -> Any:
        return self._engine.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The callback below hears it with all it needs."""

    def save(self, checkpoint_path: str) -> None:
        """MLflow keeps it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was saved."""


class _Ears(tune.Callback):
    """What Ray tells of its trials."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __reduce__(self) -> Any:
        return (tune.Callback, ())

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self._engine.reported(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._engine.completed(trial.trial_id, trial.last_result)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._engine.died(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        if trial.should_recover() and self._engine.again(trial.trial_id):
            return  # Ray gives up a trial whose process dies between two trials
        self._engine.completed(trial.trial_id, None, error=_why(trial))

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        self._engine.stepped()


def _why(trial: Any) -> str:
    """Return why Ray gave a trial up, in one line."""
    text = str(trial.get_error() or trial.get_pickled_error() or "its process died")
    if "OutOfMemory" in text or "memory pressure" in text:
        return "out of memory: Ray's memory monitor ended the process; give trials more memory or run fewer at once"
    last = [line.strip() for line in text.splitlines() if line.strip()]
    return f"the process or its node died, again and again: {' '.join(last)[-500:]}"


def _job_id() -> str:
    return str(ray.get_runtime_context().get_job_id())


def finish(store: Store, shared: Shared, folders: list[str], patience: float = 300.0) -> bool:
    """Deliver what runs could not deliver themselves, wait until the store has everything; return whether it has.

    A store that stays away for `patience` seconds ends nothing: a warning says what to do once it is back.
    """
    deadline = time.monotonic() + patience
    arrived = store.drain(patience)
    outboxes = [] if Place(shared.storage).remote else [Path(shared.storage) / folder / "outbox" for folder in folders]
    arrived = all(_deliver(outbox, shared.uri, deadline) for outbox in outboxes) and arrived
    if not arrived:
        warnings.warn(
            f"the tracking store did not answer for {patience:.0f} s: what runs had to tell is kept. Once it does: "
            f"python -m mlflow_projects.sync {shared.storage}, and reap for runs that still say RUNNING"
        )
    return arrived


def _deliver(outbox: Path, uri: str, deadline: float) -> bool:
    while (outbox / "records.jsonl").exists():
        try:
            sync(outbox, uri)
        except FileNotFoundError:  # the run itself was faster
            break
        except Exception:
            if time.monotonic() > deadline:
                return False
            time.sleep(1)
    return True
