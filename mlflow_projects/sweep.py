"""`mlflow run . -e sweep`: search hyper-parameters over seeds with Ray Tune, from a laptop to a cluster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from experiments.config import split_flags, to_flags
from experiments.describe import git_tags
from experiments.tables import for_terminal
from geovae.checkpoint import load
from geovae.tracking import MlflowTracker
from mlflow_projects import entry
from mlflow_projects.cluster import WHERE, amount, reached, settle
from mlflow_projects.registry.versions import fetch_model
from mlflow_projects.registry.views import sweep_view
from tuning.board import description, table
from tuning.nodes import check_store
from tuning.progress import Progress
from tuning.runs import find_configurations, find_sweep
from tuning.schedulers import check_population
from tuning.search import build_search
from tuning.space import Options, Space, SpaceError, check_space, config_in, parse_space, read_space
from tuning.sweep import Settings, SweepResult, best_run, sweep

Definition = dict[str, Any]

DEFAULTS = {
    "dataset": "",
    "model": "",
    "space": "",
    "search": "optuna",
    "trials": "20",
    "seeds": "3",
    "reduction": "3",
    "scheduler": "none",
    "grace": "5",
    "halving": "3",
    "every": "5",
    "watched": "val/loss",
    "time-budget": "",
    "warm-start": "",
    "trained": "",
    "resume": "",
    **WHERE,
}
DEFINITION = "sweep.yaml"
MAY_CHANGE = ("address", "cpus", "gpus", "concurrency", "max-failures", "time-budget", "resume")  # on a resume


def main(flags: Sequence[str]) -> None:
    """Search a space: `--space` is a shipped one (the model's by default) or a YAML file.

    How to search: `--search` optuna, random or grid; `--trials` configurations; `--seeds 3` runs of each, or `3,6,12`
    for rounds in which the best 1/`--reduction` go on; `--scheduler` none, asha (`--grace`, `--halving`) or pbt
    (`--every`), by the epoch's `--watched`; `--warm-start SWEEP_ID` starts from another sweep's configurations.
    Sampler options are searched on one model, given with `--trained` (a file, run id or models:/ URI) or trained first.

    Where: `--address` local, auto or host:port; `--storage` a folder that all nodes see or s3://...; `--cpus`, `--gpus`
    for each run (by default a GPU where there are any), `--concurrency` runs at once, `--time-budget` seconds,
    `--max-failures` restarts of a run.

    `--resume SWEEP_ID` goes on with a sweep. All other flags are options of every run, `--training.epochs` and so on:
    `python -m mlflow_projects.train --help` lists them.
    """
    values, rest = entry.take_flags(flags, **DEFAULTS)
    entry.show_help(rest, values, main.__doc__)
    check_store(entry.tracking_uri())
    budget = amount("time-budget", values["time-budget"]) if values["time-budget"] else None
    definition = _stored(values, rest) if values["resume"] else _define(values, rest)
    space = parse_space(definition["space"], "the search space")
    settings = Settings(**{**definition["settings"], "seeds": tuple(definition["settings"]["seeds"])})
    if not values["resume"]:
        check_space(space, definition["flags"])
        if settings.scheduler == "pbt":
            check_population(space, definition["flags"])
    earlier = find_configurations(MlflowClient(), definition["warm-start"]) if definition["warm-start"] else []
    device = config_in(space, definition["flags"], space.corners()[0])["device"]
    with reached(values, device) as resources, _open(values["resume"]) as tracker:
        definition["storage"] = settle(definition["storage"], tracker)
        if not values["resume"]:
            _keep(definition, tracker)
        _announce(tracker)
        known_length = settings.search != "grid" and len(settings.seeds) == 1 and not values["resume"]
        total = settings.trials * settings.seeds[0] if known_length else None
        progress = Progress(total)
        outcome = sweep(
            space,
            definition["flags"],
            tracker,
            settings=settings,
            resources=replace(resources, time_budget=budget),
            storage=definition["storage"],
            model_file=definition["trained"] or None,
            earlier=earlier,
            on_event=progress,
        )
        progress.show()
        print(for_terminal(table(outcome.board, outcome.configurations, outcome.headline)))
        if not outcome.board:
            raise SystemExit(1)
        _tell_best(outcome, tracker, [dimension.name for dimension in space.dimensions])


def _define(values: dict[str, str], rest: list[str]) -> Definition:
    """Return all that says what the sweep is, as plain data; everything is checked that needs no cluster."""
    given, _ = split_flags(rest)
    given |= {"data.name": values["dataset"]} if values["dataset"] else {}
    given |= {"model.name": values["model"]} if values["model"] else {}
    name = values["space"] or given.get("model.name", "vae")
    space = read_space(name).without(list(given))
    if not space.dimensions:
        raise SpaceError(f"the flags set every option that the space {name!r} searches; leave one open")
    settings = _settings(values)
    if settings.search == "grid":
        build_search(space, "grid", trials=1, seed=0)
    trained = str(fetch_model(values["trained"]).absolute()) if values["trained"] else ""
    if trained and space.retrains:
        raise SpaceError(f"--trained belongs to a space of sampler options alone, and {name!r} searches others too")
    fixed = space.fixed | _trained_options(trained)
    return {
        "space": Space(fixed, space.dimensions).describe(),
        "flags": to_flags(given),
        "settings": asdict(settings) | {"seeds": list(settings.seeds)},
        "warm-start": values["warm-start"],
        "trained": trained,
        "storage": values["storage"],
    }


def _trained_options(trained: str) -> Options:
    """Return the data set and the model of a trained model's file as options, which its runs record as their own."""
    if not trained:
        return {}
    meta = load(trained)[1]
    model = {f"model.{key}": value for key, value in meta["options"].items()}
    return {"model.name": meta["model"]} | model | {f"data.{key}": value for key, value in meta["data"].items()}


def _stored(values: dict[str, str], rest: list[str]) -> Definition:
    """Return the definition that a sweep was started with.

    Raises:
        FileNotFoundError: if there is no such sweep.
        ValueError: if anything that would change it is given.
    """
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    find_sweep(client, values["resume"])
    try:
        text = Path(client.download_artifacts(values["resume"], DEFINITION)).read_text()
    except (MlflowException, OSError) as error:
        raise FileNotFoundError(f"sweep {values['resume']} has no {DEFINITION}: it died before it began") from error
    stored: Definition = yaml.safe_load(text)
    if rest:
        raise ValueError(f"a sweep goes on as it was started; leave out {rest[0]}, or start a new one with warm-start=")
    plain = _plain(stored)
    for name, default in DEFAULTS.items():
        if name not in (*MAY_CHANGE, "space") and values[name] not in (default, plain.get(name, default)):
            raise ValueError(
                f"a sweep goes on as it was started, with {name}={plain.get(name, default)!r}, not {values[name]!r}; "
                "leave it out, or start a new sweep with warm-start="
            )
    if values["space"] and read_space(values["space"]).describe() != stored["space"]:
        raise SpaceError(f"the space {values['space']!r} is not the one that sweep {values['resume']} searches")
    return stored


def _plain(stored: Definition) -> dict[str, str]:
    """Return the stored definition's values as a command line writes them."""
    settings = {key: str(value) for key, value in stored["settings"].items()}
    settings["seeds"] = ",".join(map(str, stored["settings"]["seeds"]))
    flags, _ = split_flags(stored["flags"])
    names = {"dataset": flags.get("data.name", ""), "model": flags.get("model.name", "")}
    return settings | names | {name: stored[name] for name in ("warm-start", "trained", "storage")}


def _settings(values: dict[str, str]) -> Settings:
    numbers = {
        name: entry.whole(name, values[name], 1) for name in ("trials", "reduction", "grace", "halving", "every")
    }
    seeds = tuple(entry.whole("seeds", text.strip(), 1) for text in values["seeds"].split(","))
    chosen = {"search": ("optuna", "random", "grid"), "scheduler": ("none", "asha", "pbt")}
    for name, known in chosen.items():
        if values[name] not in known:
            raise ValueError(f"unknown {name} {values[name]!r}; choose from {', '.join(known)}")
    names = {name: values[name] for name in (*chosen, "watched")}
    settings = Settings(**numbers, **names, seeds=seeds)  # type: ignore[arg-type]
    settings.check()
    return settings


@contextmanager
def _open(resumed: str) -> Iterator[MlflowTracker]:
    """Open the sweep's own run: a new one, or that of a sweep that goes on, which ends as this process does."""
    with entry.open_run("sweep") as mine:
        if not resumed or mine.run_id == resumed:
            yield mine
            return
        mine.tags({"role": "resume", "sweep": resumed})
        client = MlflowClient()
        client.update_run(resumed, status="RUNNING")
        experiment = client.get_run(resumed).info.experiment_id
        output = entry.writable(entry.RUNS / resumed)
        status = "KILLED"
        try:
            with MlflowTracker(output, run_id=resumed, experiment_id=experiment, continued=True) as tracker:
                yield tracker
            status = "FINISHED"
        except Exception:
            status = "FAILED"
            raise
        finally:
            client.set_terminated(resumed, status)


def _keep(definition: Definition, tracker: MlflowTracker) -> None:
    """Write down what the sweep is before it begins."""
    assert tracker.run_id is not None
    client = MlflowClient()
    client.set_tag(tracker.run_id, "role", "sweep")
    client.log_text(tracker.run_id, yaml.safe_dump(definition, sort_keys=False), DEFINITION)
    settings = {f"sweep.{name}": value for name, value in definition["settings"].items()}
    tracker.params(settings | {"sweep.flags": " ".join(definition["flags"])})
    tracker.tags({"sweep": tracker.run_id, **git_tags()})


def _announce(tracker: MlflowTracker) -> None:
    uri = entry.tracking_uri()
    page = f"#/experiments/{tracker.experiment_id}/runs/{tracker.run_id}"
    url = f"{uri.rstrip('/')}/{page}" if uri.startswith("http") else f"make ui; http://127.0.0.1:5000/{page}"
    print(f"sweep {tracker.run_id}: {url}", flush=True)


def _tell_best(outcome: SweepResult, tracker: MlflowTracker, options: list[str]) -> None:
    view = partial(sweep_view, sweep_id=str(tracker.run_id), headline=outcome.headline, options=options)
    if link := entry.say_where(view, tracker):
        text = description(outcome.board, outcome.configurations, outcome.headline, str(tracker.experiment_id))
        tracker.tags({"mlflow.note.content": f"[All configurations as a table and as lines]({link})\n\n{text}"})
    best = outcome.board[0]
    model = best_run(best)
    print(f"best: {best.name}, {outcome.headline} {best.mean:.4g}; its best model is in run {model.run_id}")
    print(f"repeat it: mlflow run . -e train -P config={tracker.output / 'best.yaml'}")
    print(f"draw from it: mlflow run . -e generate -P model={model.run_id}")


if __name__ == "__main__":
    entry.main(main)
