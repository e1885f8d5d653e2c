"""`mlflow run . -e sweep`: search hyper-parameters over seeds with Ray Tune, from a laptop to a cluster."""

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from experiments.config import Options
from experiments.describe import git_tags
from experiments.help import as_command
from experiments.run import check_data
from experiments.tables import for_terminal
from geovae.adapters import KINDS
from geovae.checkpoint import load
from geovae.checks import check_choice, check_positive
from geovae.models import MODELS
from geovae.tracking import MlflowTracker
from mlflow_projects import entry
from mlflow_projects.cluster import Cluster, reached, settle
from mlflow_projects.registry.versions import fetch_model
from mlflow_projects.registry.views import sweep_view
from tuning.board import description, table
from tuning.nodes import check_store
from tuning.plan import best_run
from tuning.progress import Progress
from tuning.runs import find_configurations, find_sweep
from tuning.search import build_search
from tuning.settings import Settings, check_population
from tuning.space import Space, SpaceError, check_space, config_in, parse_space, read_space

if TYPE_CHECKING:
    from tuning.sweep import SweepResult

DEFINITION = "sweep.yaml"


@dataclass(frozen=True)
class Definition:
    """What `sweep.yaml` holds of a sweep; it must be the same when the sweep is resumed."""

    space: dict[str, Any]  # as `Space.describe` gives it
    options: Options  # of every run
    settings: Settings
    warm_start: str = ""  # another sweep's id
    trained: str = ""  # path of a model file
    storage: str = ""

    def to_yaml(self) -> str:
        """Return the definition as the text of a file."""
        content = asdict(self)
        content["settings"]["seeds"] = list(self.settings.seeds)  # safe YAML has no tuples
        return yaml.safe_dump(content, sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str) -> "Definition":
        """Return the definition that `to_yaml` wrote."""
        content = yaml.safe_load(text)
        settings = content.pop("settings")
        return cls(**content, settings=Settings(**settings | {"seeds": tuple(settings["seeds"])}))


def main(
    options: Options,
    space: str = "",
    trained: str = "",
    warm_start: str = "",
    resume: str = "",
    time_budget: float | None = None,
    settings: Settings = Settings(),
    cluster: Cluster = Cluster(),
) -> None:
    """Search hyper-parameters.

    All other options are those of every run: `python -m mlflow_projects.train --help` lists them.

    Args:
        options: of every run.
        space: name of a shipped space (by default the model's), or a YAML file.
        trained: file, run id or models:/ URI of the model on which sampler options are searched; without it one is
            trained first.
        warm_start: id of a sweep whose configurations the search starts from.
        resume: id of a sweep to resume.
        time_budget: seconds after which all runs are stopped.
        settings: how to search.
        cluster: where the runs run.

    Examples:
        python -m mlflow_projects.sweep --dataset mnist_5k --trials 10 --seeds 3
        python -m mlflow_projects.sweep --space sampler_riemannian --trained RUN_ID
        python -m mlflow_projects.sweep --resume SWEEP_ID
    """
    from mlflow import MlflowClient

    check_store(entry.tracking_uri())
    if time_budget is not None:
        check_positive(time_budget=time_budget)
    given = {"trained": trained, "warm_start": warm_start, "storage": cluster.storage}
    if resume:
        definition = stored_definition(resume)
        check_resume(definition, {"settings": settings, **given}, options, space)
    else:
        definition = define(options, space, settings, **given)
    searched, settings = parse_space(definition.space, "the search space"), definition.settings
    earlier = find_configurations(MlflowClient(), definition.warm_start) if definition.warm_start else []
    corners = [config_in(searched, definition.options, corner) for corner in searched.corners()]
    if cluster.address == "local":  # elsewhere the data may be on the nodes alone
        check_data(corners)
    device = corners[0]["device"]
    with reached(cluster, device) as resources, _open(resume) as tracker:
        storage = settle(definition.storage, tracker)
        if not resume:
            _keep(replace(definition, storage=storage), tracker)
        print(f"sweep {tracker.run_id}: {entry.run_address(tracker)}", flush=True)
        progress = Progress(_number_of_trials(settings, resume))
        # by its name, now: it imports Ray, and `--help` need not wait for that
        outcome = import_module("tuning.sweep").sweep(
            searched,
            definition.options,
            tracker,
            settings=settings,
            resources=replace(resources, time_budget=time_budget),
            storage=storage,
            model_file=definition.trained or None,
            earlier=earlier,
            on_event=progress,
        )
        progress.show()
        _print_board(outcome, tracker, [dimension.name for dimension in searched.dimensions])


def define(
    options: Options, space: str, settings: Settings, *, trained: str, warm_start: str, storage: str
) -> Definition:
    """Return the definition of a new sweep, after every check that needs no cluster.

    Raises:
        ValueError: in one sentence, for a space, setting or option that does not fit.
    """
    settings.check()
    name = space or options.get("model.name", "vae")
    searched = read_space(name).without(list(options))
    if not searched.dimensions:
        raise SpaceError(f"the flags set every option that the space {name!r} searches; leave one open")
    # refuses ranges of a grid search, and grids too large to list: now, not after the cluster has started
    build_search(searched, settings.search, trials=1, seed=0)
    # absolute: a resumed sweep may be started in another folder
    trained = str(fetch_model(trained).absolute()) if trained else ""
    if trained and searched.retrains:
        raise SpaceError(f"--trained belongs to a space of sampler options alone, and {name!r} searches others too")
    searched = Space(searched.fixed | _trained_options(trained), searched.dimensions)
    check_space(searched, options)
    _check_watched(searched, options, settings)
    if settings.scheduler == "pbt":
        check_population(searched, options)
    return Definition(searched.describe(), options, settings, warm_start, trained, storage)


def _check_watched(space: Space, options: Options, settings: Settings) -> None:
    """Raise a ValueError if a model of the space does not record the metric that is watched."""
    for corner in space.corners():
        model: Any = MODELS[config_in(space, options, corner)["model"]["name"]]
        check_choice(
            "watched", settings.watched, [f"{part}/{name}" for part in ("val", "train") for name in model.losses]
        )


def _trained_options(trained: str) -> Options:
    """Return the data set and the model of a model file as options: the runs that draw from it record them."""
    if not trained:
        return {}
    meta = load(trained)[1]
    if meta["model"] in KINDS:
        raise SpaceError(f"{trained} holds a model from elsewhere ({meta['model']}): a sweep draws from models of ours")
    model = {f"model.{key}": value for key, value in meta["options"].items()}
    return {"model.name": meta["model"]} | model | {f"data.{key}": value for key, value in meta["data"].items()}


def stored_definition(sweep_id: str) -> Definition:
    """Return the definition that a sweep was started with.

    Raises:
        FileNotFoundError: if there is no such sweep.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    find_sweep(client, sweep_id)
    try:
        return Definition.from_yaml(Path(client.download_artifacts(sweep_id, DEFINITION)).read_text())
    except (MlflowException, OSError) as error:
        raise FileNotFoundError(f"sweep {sweep_id} has no {DEFINITION}: it died before it began") from error


def check_resume(stored: Definition, given: dict[str, Any], options: Options, space: str) -> None:
    """Raise a ValueError if anything is given that would change a stored sweep; defaults count as not given."""
    if changed := [name for name, value in options.items() if stored.options.get(name) != value]:
        remedy = f"leave out --{changed[0]}, or start a new one with warm_start="
        raise ValueError(f"a sweep is resumed as it was started; {remedy}")
    defaults, kept = _values({"settings": Settings()}), _values(vars(stored))
    for name, value in _values(given).items():
        if value not in (defaults.get(name, ""), kept[name]):
            raise ValueError(
                f"a sweep is resumed as it was started, with {name}={kept[name]}, not {value}; "
                "leave it out, or start a new sweep with warm_start="
            )
    if space and read_space(space).describe() != stored.space:
        raise SpaceError(f"the space {space!r} is not the one that this sweep searches")


def _values(definition: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in definition.items() if name != "settings"} | asdict(definition["settings"])


def _open(resume: str) -> AbstractContextManager[MlflowTracker]:
    return entry.continue_run(resume, {"sweep": resume}) if resume else entry.open_run("sweep")


def _keep(definition: Definition, tracker: MlflowTracker) -> None:
    """Store what the sweep is before it begins."""
    from mlflow import MlflowClient

    # by the client, not the tracker, whose queue may deliver later: a sweep without its definition cannot be resumed
    assert tracker.run_id is not None
    client = MlflowClient()
    client.set_tag(tracker.run_id, "role", "sweep")
    client.log_text(tracker.run_id, definition.to_yaml(), DEFINITION)
    options = " ".join(f"{name}={value}" for name, value in definition.options.items())
    tracker.params({f"sweep.{name}": value for name, value in asdict(definition.settings).items()})
    tracker.params({"sweep.options": options})
    tracker.tags({"sweep": tracker.run_id, **git_tags()})


def _number_of_trials(settings: Settings, resumed: str) -> int | None:
    """Return how many trials a sweep has; None for a grid, for halving, which depends on scores, and after a resume."""
    known = settings.search != "grid" and len(settings.seeds) == 1 and not resumed
    return settings.trials * settings.seeds[0] if known else None


def _print_board(outcome: "SweepResult", tracker: MlflowTracker, options: list[str]) -> None:
    """Print the leaderboard, and what can be done with its first configuration.

    Raises:
        SystemExit: with code 1, if no configuration was judged.
    """
    print(for_terminal(table(outcome.board, outcome.configurations, outcome.headline)))
    if not outcome.board:
        raise SystemExit(1)
    view = partial(sweep_view, sweep_id=str(tracker.run_id), headline=outcome.headline, options=options)
    if link := entry.show_view(view, tracker):
        text = description(outcome.board, outcome.configurations, outcome.headline, str(tracker.experiment_id))
        tracker.tags({"mlflow.note.content": f"[All configurations as a table and as lines]({link})\n\n{text}"})
    best = outcome.board[0]
    model = best_run(best)
    entry.show_best(tracker, str(model.run_id))
    print(f"best: {best.name}, {outcome.headline} {best.mean:.4g}; its best model is in run {model.run_id}")
    experiment = str(tracker.experiment_id)
    print(f"repeat it: {as_command('train', {'config': tracker.output / 'best.yaml'}, experiment)}")
    print(f"draw from it: {as_command('generate', {'model': model.run_id}, experiment)}")


if __name__ == "__main__":
    entry.main(main)
