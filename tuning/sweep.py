"""A sweep: search a space with every configuration judged over several seeds, all of it below one MLflow run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from experiments.config import Config, fingerprint, to_yaml
from experiments.describe import git_tags
from geovae.data import IMAGE_SHAPES
from geovae.evaluation import headline
from geovae.models import build_model
from geovae.tracking import MlflowTracker
from tuning.board import describe_board
from tuning.engine import Engine, Watch, finish
from tuning.execute import Failure, Task, execute
from tuning.nodes import check_resources
from tuning.plan import Configuration, Job, Plan, Run, ranked
from tuning.search import Method, build_search
from tuning.space import Options, Space, SpaceError, config_in
from tuning.store import Store
from tuning.trial import SCHEDULED, Shared

Schedule = Literal["none", "asha", "pbt"]


@dataclass(frozen=True)
class Settings:
    """What a sweep is, beside its space and the options of its runs; a sweep that goes on must have the same.

    `seeds`: runs of a configuration in each round, with the best 1/`reduction` going on to the next. `trials`:
    configurations. `grace` and `halving`: ASHA's first epoch to stop at and its factor. `every`: epochs between two
    exchanges of population based training. `watched`: the metric of an epoch that the scheduler compares.
    """

    search: Method = "optuna"
    trials: int = 20
    seeds: tuple[int, ...] = (3,)
    reduction: int = 3
    scheduler: Schedule = "none"
    grace: int = 5
    halving: int = 3
    every: int = 5
    watched: str = "val/loss"
    seed: int = 0

    def check(self) -> None:
        """Raise a ValueError for a value out of its range."""
        for name in ("trials", "grace", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        for name in ("halving", "reduction"):
            if getattr(self, name) < 2:
                raise ValueError(f"`{name}` must be at least 2, got {getattr(self, name)}")
        if self.scheduler == "pbt" and self.seeds != (1,):
            raise ValueError(
                f"`scheduler` pbt changes runs while they train, so that no other seed can repeat them: set `seeds` to "
                f"1, got {list(self.seeds)}"
            )
        if not self.seeds or any(b <= a for a, b in zip((0, *self.seeds), self.seeds, strict=False)):
            raise ValueError(f"`seeds` must be whole numbers that grow from at least 1, got {list(self.seeds)}")


@dataclass(frozen=True)
class Resources:
    """What the trials may use: `concurrency` runs at once, each with `cpus` and `gpus`, for `time_budget` seconds."""

    cpus: float = 1
    gpus: float = 0
    concurrency: int | None = None
    time_budget: float | None = None
    max_failures: int = 3


@dataclass
class Outcome:
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
    earlier: Sequence[tuple[Options, float]] = (),
    watch: Watch | None = None,
) -> Outcome:
    """Search `space` on the cluster that `connected` has reached, and keep everything below the run of `tracker`.

    The same call with a tracker of a sweep's run goes on with it.

    Args:
        space: checked by `check_space`.
        options: of every run; they must not name searched ones (`Space.without`).
        tracker: of the sweep's own run.
        settings: how to search and to judge.
        resources: what the trials may use.
        storage: absolute folder that all nodes see, or a URI of an object store.
        model_file: a trained model, for a space of sampler options alone; without it one is trained first.
        earlier: options and scores to start from, of another sweep.
        watch: hears events for a progress table.
    """
    assert tracker.run_id is not None
    assert tracker.experiment_id is not None
    settings.check()
    fit = check_resources(resources.cpus, resources.gpus)
    concurrency = min(resources.concurrency or fit, fit)
    store = Store(tracker.uri, tracker.experiment_id, tracker.run_id)
    commit = git_tags().get("mlflow.source.git.commit", "")
    shared = Shared(
        store.uri, store.experiment_id, storage, watched=settings.watched, commit=commit, cwd=str(Path.cwd())
    )
    known = store.read()
    if not space.retrains and model_file is None:
        model_file = _train_one(space, options, tracker, storage, resources)
    search = build_search(
        space, settings.search, trials=settings.trials, seed=settings.seed + 1000 * len(known), earlier=earlier
    )
    alone = settings.scheduler == "asha" and space.retrains
    plan = Plan(search, seeds=settings.seeds, reduction=settings.reduction, first_alone=alone)
    for one in known:
        plan.add(one)
    population = settings.scheduler == "pbt"
    jobs = _Sweep(plan, space, options, store, tracker, model_file, alone, population)
    engine = Engine(
        jobs,
        store,
        shared,
        concurrency=settings.trials if population else concurrency,  # Ray lets a population's members take turns
        cpus=resources.cpus,
        gpus=resources.gpus,
        max_failures=resources.max_failures,
        time_budget=resources.time_budget,
        scheduler=build_scheduler(settings, space, jobs.base, store, known),
        watch=watch,
    )
    try:
        engine.run()
    finally:
        jobs.end_all()
        if finish(store, shared, [Job(c.number, s, {}).name for c in plan.configurations for s in c.runs]):
            store.sweep_up(plan.configurations)
        outcome = Outcome(jobs.headline, plan.configurations, ranked(plan.configurations))
        describe_board(outcome.board, outcome.configurations, space, jobs.headline, tracker)
    if outcome.board:
        best = outcome.board[0]
        file = tracker.output / "best.yaml"
        file.write_text(to_yaml(jobs.config(best.options | best.changed, 0)))
        tracker.artifact(file)
        model = min((run for run in best.runs.values() if run.score is not None), key=lambda run: run.score or 0.0)
        tracker.tags({"best_configuration": best.name, "best_run": model.run_id or ""})
    return outcome


def _train_one(
    space: Space, options: Mapping[str, Any], tracker: MlflowTracker, storage: str, resources: Resources
) -> str:
    """Train the model that all sampler options of the space are tried on."""
    config = config_in(space, options, {}) | {"samplers": ["prior"]}
    outcome = execute(
        {"model": Task(config, tags={"sweep": tracker.run_id})},
        tracker,
        storage=storage,
        cpus=resources.cpus,
        gpus=resources.gpus,
    )["model"]
    if isinstance(outcome, Failure):
        raise SpaceError(f"the model whose samplers are to be searched could not be trained: {outcome.reason}")
    return f"{storage}/model/{outcome.model_file.name}"


class _Sweep:
    """The engine's jobs: what the plan proposes, as MLflow runs and workers' tasks."""

    def __init__(
        self,
        plan: Plan,
        space: Space,
        options: Mapping[str, Any],
        store: Store,
        tracker: MlflowTracker,
        model_file: str | None,
        alone: bool,
        population: bool,
    ) -> None:
        self.plan, self.space, self.options, self.store, self.tracker = plan, space, dict(options), store, tracker
        self.model_file, self.alone, self.population = model_file, alone, population
        self.base = config_in(space, options, space.corners()[0])
        self.headline = headline(self.base["extractor"])
        self._judged = sum(bool(c.scores) for c in plan.configurations)
        self._ended: set[int] = set()

    @property
    def finished(self) -> bool:
        return self.plan.finished

    def next(self) -> Job | None:
        return self.plan.next()

    def config(self, options: Options, seed: int) -> Config:
        """Return the configuration of a run."""
        config = config_in(self.space, self.options, options)
        return config | {"seed": config["seed"] + seed}

    def task(self, job: Job) -> dict[str, Any]:
        task: dict[str, Any] = {"config": self.config(job.options, job.seed)}
        if self.model_file:
            return task | {"model_file": self.model_file}
        return task | {"compared": job.seed == 0 or not self.alone}

    def changeable(self, job: Job) -> Options:
        return job.options | self.plan.configurations[job.configuration].changed if self.population else {}

    def open(self, job: Job) -> str:
        """Open the job's run below its configuration's, which the first of them makes."""
        configuration = self.plan.configurations[job.configuration]
        config = self.config(job.options, job.seed)
        group = {"sweep": self.store.sweep_id, "configuration": configuration.name}
        if configuration.run_id is None:
            about = {"role": "configuration", "options": _json(job.options), "model": config["model"]["name"]}
            hashes = {"config_over_seeds": fingerprint(config, over_seeds=True), "dataset": config["data"]["name"]}
            configuration.run_id = self.store.open(configuration.name, self.store.sweep_id, group | about | hashes)
            self.store.describe(configuration.run_id, {f"cfg.{k}": v for k, v in job.options.items()}, {})
        elif configuration.number in self._ended:
            self._ended.discard(configuration.number)
            self.store.open(configuration.name, None, {}, known=configuration.run_id)
        known = self.plan.run_of(job).run_id
        about = {"role": "seed", "sweep.seed": job.seed}
        return self.store.open(job.name, configuration.run_id, group | about, known=known)

    def opened(self, job: Job, run_id: str) -> None:
        self.plan.run_of(job).run_id = run_id

    def tell(self, job: Job, run: Run) -> None:
        self.plan.tell(job, run)
        configuration = self.plan.configurations[job.configuration]
        if configuration.state not in ("WAITING", "RUNNING"):
            self._end(configuration)
            best = ranked(self.plan.configurations)
            if best and configuration.scores:
                self._judged += 1
                self.tracker.metrics({f"best/{self.headline}": best[0].mean}, step=self._judged)

    def again(self, job: Job) -> None:
        self.plan.again(job)

    def end_all(self) -> None:
        """End the configurations that were cut off."""
        for configuration in self.plan.configurations:
            if configuration.number not in self._ended and configuration.run_id is not None:
                self._end(configuration)

    def _end(self, configuration: Configuration) -> None:
        state = configuration.state if configuration.state not in ("WAITING", "RUNNING") else "KILLED"
        reasons = {run.reason for run in configuration.runs.values() if run.reason}
        tags = {"failure" if state == "FAILED" else "stop_reason": "; ".join(sorted(reasons))} if reasons else {}
        values = {"runs": float(len(configuration.scores)), f"best/{self.headline}": configuration.mean}
        values[f"best/{self.headline}_stderr"] = configuration.stderr
        finite = {key: value for key, value in values.items() if value == value and abs(value) != float("inf")}
        assert configuration.run_id is not None
        self._ended.add(configuration.number)
        self.store.later(self.store.end, configuration.run_id, state, tags, finite)


def build_scheduler(
    settings: Settings, space: Space, config: Config, store: Store, known: Sequence[Configuration]
) -> Any:
    """Return Ray's scheduler; one of a sweep that goes on hears first what it heard before.

    Raises:
        SpaceError: if it has nothing to do with this space.
    """
    from ray.tune.schedulers import ASHAScheduler

    if settings.scheduler == "none":
        return None
    if not space.retrains:
        raise SpaceError(f"scheduler={settings.scheduler} stops training, but this space searches sampler options only")
    if settings.scheduler == "pbt":
        return _population(settings.every, _mutations(space))
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric=SCHEDULED,
        mode="min",
        max_t=config["training"]["epochs"] + 1,  # the last epoch is followed by the judging
        grace_period=settings.grace,
        reduction_factor=settings.halving,
    )
    for one in known:
        first = one.runs.get(0)
        if first is not None and first.run_id is not None:
            _retell(scheduler, f"{one.name}-before", store.epochs(first.run_id, settings.watched))
    return scheduler


def _population(every: int, mutations: dict[str, Any]) -> Any:
    """Return Ray's population based training that takes the engine's jobs.

    Ray refuses it beside a search, which would be told scores of options that the population has changed since. The
    engine's is none: it hands out jobs, and is told nothing by Ray.
    """
    from types import SimpleNamespace

    from ray.tune.schedulers import PopulationBasedTraining

    class Population(PopulationBasedTraining):
        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            without_search: Any = SimpleNamespace(search_alg=None)  # all that is read of it
            super().on_trial_add(without_search, trial)

        def _get_new_config(self, trial: Any, trial_to_clone: Any) -> Any:
            config, operations = super()._get_new_config(trial, trial_to_clone)
            return config | {"task": trial.config["task"]}, operations  # the options are another's, the run is its own

    return Population(
        time_attr="epoch",
        metric=SCHEDULED,
        mode="min",
        perturbation_interval=every,
        hyperparam_mutations=mutations,
        log_config=False,
    )


def _retell(scheduler: Any, name: str, epochs: Sequence[tuple[int, float]]) -> None:
    from types import SimpleNamespace

    trial = SimpleNamespace(trial_id=name)
    scheduler.on_trial_add(None, trial)
    for epoch, value in epochs:
        scheduler.on_trial_result(None, trial, {"epoch": epoch, SCHEDULED: value})


def check_population(space: Space, options: Mapping[str, Any]) -> None:
    """Raise a SpaceError if members of a population would have models of different shapes: weights are copied."""
    corners = space.corners()
    first = _shapes(config_in(space, options, corners[0]))
    for dimension in space.dimensions:
        for value in dimension.values:
            if _shapes(config_in(space, options, corners[0] | {dimension.name: value})) != first:
                raise SpaceError(
                    f"scheduler=pbt copies weights between runs, and {dimension.name} changes their shapes; set it, "
                    f"{dimension.name}={corners[0][dimension.name]}"
                )


def _shapes(config: Config) -> dict[str, Any]:
    shape = IMAGE_SHAPES[config["data"]["name"]] or (1, 32, 32)
    options = {key: value for key, value in config["model"].items() if key != "name"}
    with torch.device("meta"):
        model = build_model(config["model"]["name"], shape, **options)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _mutations(space: Space) -> dict[str, Any]:
    """Return Ray's distribution of each searched option."""
    from ray import tune

    found: dict[str, Any] = {}
    for d in space.dimensions:
        if d.kind in ("choice", "grid"):
            found[d.name] = list(d.values)
            continue
        whole, (low, high) = all(isinstance(end, int) for end in d.values), d.values
        draw = {
            ("uniform", True): tune.randint,
            ("uniform", False): tune.uniform,
            ("log_uniform", True): tune.lograndint,
            ("log_uniform", False): tune.loguniform,
        }[d.kind, whole]
        found[d.name] = draw(low, high + 1 if whole else high)
    return found


def _json(options: Options) -> str:
    import json

    return json.dumps(options)
