"""A sweep: search a space with every configuration judged over several seeds, all of it below one MLflow run."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.config import Config, Options, fingerprint, to_yaml
from geovae.evaluation import headline
from geovae.tracking import MlflowTracker
from tuning.board import record_board
from tuning.engine import OnEvent, engine_for
from tuning.execute import execute
from tuning.nodes import Resources
from tuning.plan import OPEN, Configuration, Failure, Plan, Run, Task, Trial, best_run, ranked
from tuning.runs import RunStore
from tuning.schedulers import build_asha, build_population, replay
from tuning.search import Search, build_search
from tuning.settings import Settings
from tuning.space import Scored, Space, SpaceError, config_in


@dataclass
class SweepResult:
    """What a sweep found: all configurations, and the judged ones best first."""

    headline: str
    configurations: list[Configuration]
    board: list[Configuration] = field(default_factory=list)


def sweep(
    space: Space,
    options: Mapping[str, Any],
    tracker: MlflowTracker,
    *,
    settings: Settings,
    resources: Resources,
    storage: str,
    model_file: str | None = None,
    earlier: Sequence[Scored] = (),
    on_event: OnEvent | None = None,
) -> SweepResult:
    """Search `space` on the cluster that `connected` has reached; all runs lie below the run of `tracker`.

    With the tracker of a sweep that was interrupted, the same call resumes it.

    Args:
        space: checked by `check_space`.
        options: of every run; they must not name searched ones (`Space.without`).
        tracker: of the sweep's own run.
        settings: how to search and to judge.
        resources: for each trial.
        storage: absolute folder that all nodes see, or a URI of an object store.
        model_file: a trained model, for a space of sampler options only; without it one is trained first.
        earlier: options and scores of another sweep, for a warm start.
        on_event: callback for a progress display.

    Raises:
        ClusterError: if no node has the resources.
        SpaceError: if the search or the scheduler does not fit the space, or the model cannot be trained.
        ValueError: for settings out of their range.
    """
    settings.check()
    engine = engine_for(tracker, storage, resources, watched=settings.watched)
    restored = engine.runs.read_configurations()
    if not space.retrains and model_file is None:  # once for all: no configuration changes it
        model_file = _train_model(space, options, tracker, storage, resources)
    # a resumed search needs another seed, or it would propose its first configurations again
    seed = settings.seed + 1000 * len(restored)
    search = build_search(space, settings.search, trials=settings.trials, seed=seed, earlier=earlier)
    queue = _SweepQueue(search, settings, space, options, engine.runs, tracker, restored)
    queue.model_file = model_file
    scheduler = _build_scheduler(settings, space, queue)
    # all members of a population are live at once; Ray pauses those that do not fit on the cluster
    concurrency = settings.trials if settings.scheduler == "pbt" else None
    try:
        engine.run(queue, scheduler=scheduler, concurrency=concurrency, on_event=on_event)
    finally:
        queue.end_configurations()  # also after an interrupt: no run stays RUNNING
        if engine.flush([Trial(c.number, seed, {}).name for c in queue.configurations for seed in c.runs]):
            engine.runs.end_orphans(queue.configurations)
        result = SweepResult(queue.headline, queue.configurations, ranked(queue.configurations))
        record_board(result.board, result.configurations, space, queue.headline, tracker)
    if result.board:
        _record_best(result.board[0], queue, tracker)
    return result


def _build_scheduler(settings: Settings, space: Space, queue: "_SweepQueue") -> Any:
    """Return Ray's scheduler, None for `none`; it gets the results that a resumed sweep had before."""
    if settings.scheduler == "none":
        return None
    if not space.retrains:
        raise SpaceError(f"scheduler={settings.scheduler} stops training, but this space searches sampler options only")
    if settings.scheduler == "pbt":
        return build_population(space, settings.every)
    scheduler = build_asha(queue.base["training"]["epochs"], settings.grace, settings.halving)
    replay(scheduler, queue.configurations, queue.runs, settings.watched)
    return scheduler


def _train_model(
    space: Space, options: Mapping[str, Any], tracker: MlflowTracker, storage: str, resources: Resources
) -> str:
    """Train the model whose samplers are searched, and return its path or URI."""
    config = config_in(space, options, {}) | {"samplers": ["prior"]}
    task = Task(config, tags={"sweep": tracker.run_id})
    resources = replace(resources, time_budget=None)  # the budget is the search's
    outcome = execute({"model": task}, tracker, storage=storage, resources=resources)["model"]
    if isinstance(outcome, Failure):
        raise SpaceError(f"the model whose samplers are to be searched could not be trained: {outcome.reason}")
    return f"{storage}/model/{outcome.model_file.name}"


def _record_best(best: Configuration, queue: "_SweepQueue", tracker: MlflowTracker) -> None:
    """Record the best configuration, and its best run, with the sweep."""
    file = tracker.output / "best.yaml"
    file.write_text(to_yaml(queue.config(best.options | best.changed, 0)))
    tracker.artifact(file)
    tracker.tags({"best_configuration": best.name, "best_run": best_run(best).run_id or ""})


class _SweepQueue(Plan):
    """The engine's queue: the trials of a plan, as MLflow runs and as tasks of workers.

    The runs of a configuration's seeds lie below the configuration's own run, which its first trial creates.
    """

    def __init__(
        self,
        search: Search,
        settings: Settings,
        space: Space,
        options: Mapping[str, Any],
        runs: RunStore,
        tracker: MlflowTracker,
        restored: Sequence[Configuration],
    ) -> None:
        self.scheduler = settings.scheduler if space.retrains else "none"
        # ASHA stops configurations after their first seed: no other is begun before
        first_alone = self.scheduler == "asha"
        super().__init__(search, seeds=settings.seeds, reduction=settings.reduction, first_alone=first_alone)
        self.space, self.options, self.runs, self.tracker = space, options, runs, tracker
        self.model_file: str | None = None  # a trained model whose samplers are searched
        self.base = config_in(space, options, space.corners()[0])
        self.headline = headline(self.base["extractor"])
        self._ended: set[int] = set()  # numbers of configurations whose run has ended
        self._n_judged = 0
        for configuration in restored:
            self.restore(configuration)
            self._n_judged += bool(configuration.scores)

    def config(self, options: Options, seed: int) -> Config:
        config = config_in(self.space, self.options, options)
        return config | {"seed": config["seed"] + seed}  # the same seeds for every configuration

    def task(self, trial: Trial) -> dict[str, Any]:
        task: dict[str, Any] = {"config": self.config(trial.options, trial.seed)}
        if self.model_file:
            return task | {"model_file": self.model_file}
        # ASHA compares first seeds only: the others run once their configuration has passed
        return task | {"compared": trial.seed == 0 or not self.first_alone}

    def mutable_options(self, trial: Trial) -> Options:
        changed = self.configurations[trial.configuration].changed
        return trial.options | changed if self.scheduler == "pbt" else {}

    def start_run(self, trial: Trial) -> str:
        """Create or reopen the trial's run, and before it that of its configuration."""
        configuration = self.configurations[trial.configuration]
        tags = {"sweep": self.runs.parent_id, "configuration": configuration.name}
        if configuration.run_id is None:
            self._start_configuration(configuration, trial, tags)
        elif configuration.number in self._ended:  # a later round of halving gives it more seeds
            self._ended.discard(configuration.number)
            self.runs.reopen_run(configuration.run_id)
        if run_id := self.run_of(trial).run_id:
            return self.runs.reopen_run(run_id)
        return self.runs.start_run(trial.name, configuration.run_id, tags | {"role": "seed", "sweep.seed": trial.seed})

    def _start_configuration(self, configuration: Configuration, trial: Trial, tags: dict[str, str]) -> None:
        config = self.config(trial.options, trial.seed)
        about = {"role": "configuration", "options": json.dumps(trial.options), "model": config["model"]["name"]}
        hashes = {"config_over_seeds": fingerprint(config, over_seeds=True), "dataset": config["data"]["name"]}
        configuration.run_id = self.runs.start_run(configuration.name, None, tags | about | hashes)
        params = {f"cfg.{key}": value for key, value in trial.options.items()}
        self.runs.submit(self.runs.log, configuration.run_id, params=params)  # a separate call, which is retried alone

    def on_trial_start(self, trial: Trial, run_id: str) -> None:
        self.run_of(trial).run_id = run_id

    def on_trial_end(self, trial: Trial, run: Run) -> None:
        super().on_trial_end(trial, run)
        configuration = self.configurations[trial.configuration]
        if configuration.state in OPEN:
            return
        self._end(configuration)
        if configuration.scores:
            self._n_judged += 1
            best = ranked(self.configurations)[0]
            self.tracker.metrics({f"best/{self.headline}": best.mean}, step=self._n_judged)

    def end_configurations(self) -> None:
        for configuration in self.configurations:
            if configuration.number not in self._ended and configuration.run_id is not None:
                self._end(configuration)

    def _end(self, configuration: Configuration) -> None:
        state = "KILLED" if configuration.state in OPEN else configuration.state
        reasons = {run.reason for run in configuration.runs.values() if run.reason}
        tags = {"failure" if state == "FAILED" else "stop_reason": "; ".join(sorted(reasons))} if reasons else {}
        values = {"runs": float(len(configuration.scores)), f"best/{self.headline}": configuration.mean}
        values[f"best/{self.headline}_stderr"] = configuration.stderr
        # without a score the mean is infinite, and a single seed has no standard error: MLflow's charts would break
        finite = {key: value for key, value in values.items() if math.isfinite(value)}
        assert configuration.run_id is not None
        self._ended.add(configuration.number)
        self.runs.submit(self.runs.end_run, configuration.run_id, state, tags=tags, metrics=finite)
