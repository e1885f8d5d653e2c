"""`mlflow run . -e report`: the runs of a search side by side, as one HTML page that needs nothing else."""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.report import SHOWN, Record, render
from geovae.checks import check_count
from mlflow_projects import entry
from mlflow_projects.registry.versions import quiet

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

SEARCH = "attributes.status = 'FINISHED'"
ASIDE = ("cfg.seed", "cfg.device", "cfg.images_every")
CURVES = ("train/loss", "val/loss", "train/reconstruction", "val/reconstruction", "train/kl", "val/kl")


def main(
    search: str = SEARCH, experiment: str = "", output: Path = Path("report.html"), title: str = "", limit: int = 200
) -> None:
    """Write a page on the runs of an experiment that a search finds; runs that differ in the seed alone make one row.

    Args:
        search: as in the UI: `tags.mlflow.parentRunId = 'ID'`, `metrics."score/fid" < 20`; docs/names.md lists the
            names. By default all finished runs.
        experiment: name of the experiment; by default the one that `mlflow run` runs in, or geovae.
        output: the HTML file.
        title: of the page.
        limit: the most runs to read, the newest first.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    check_count(limit=limit)
    client = mlflow.MlflowClient()
    searched = _experiment(client, experiment)
    try:
        found = client.search_runs([searched.experiment_id], search, max_results=limit)
    except MlflowException as error:
        raise ValueError(f"the search {search!r} is not valid: {' '.join(str(error).split())}") from error
    runs = [run for run in found if "model" in run.data.tags and run.data.metrics and not _is_mean(run)]
    if not runs:
        raise ValueError(f"no run of a model in {searched.name!r} matches {search!r}")
    entry.writable(output.parent)
    note = f"{len(runs)} runs of the experiment {searched.name} found by: {search}"
    with quiet():
        records = read(client, runs)
    page = render(title or searched.name, records, note=note)
    with entry.open_run("report") as tracker:
        tracker.tags({"role": "report"})
        temporary = output.with_name(f".{output.name}")
        temporary.write_text(page)
        temporary.replace(output)
        tracker.text("report.html", page)
    print(f"{output}: {note}")


def _is_mean(run: "Run") -> bool:
    """Return whether a run is a sweep's configuration, which holds the mean of runs that are found themselves."""
    return bool(run.data.tags.get("role") == "configuration")


def _experiment(client: "MlflowClient", name: str) -> "Experiment":
    """Return the experiment called `name`; by default the one that `mlflow run` runs in, or geovae."""
    own = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if own and not name:
        return client.get_experiment(own)
    experiment = client.get_experiment_by_name(name or entry.EXPERIMENT)
    if experiment is None:
        known = ", ".join(repr(e.name) for e in client.search_experiments())
        raise ValueError(f"no experiment {name or entry.EXPERIMENT!r}; there are {known}")
    return experiment


def read(client: "MlflowClient", runs: Sequence["Run"]) -> list[Record]:
    """Return the records of runs; curves and pictures only of the best ones, which are all that a page shows."""
    plain = [_record(run) for run in runs]
    ranked = [key for record in plain for key in record.metrics if key.startswith(("best/fid", "best/fd_"))][:1]
    order = sorted(plain, key=lambda r: r.metrics.get(ranked[0], float("inf")) if ranked else 0.0)
    shown = set(list(dict.fromkeys(record.group for record in order))[:SHOWN])
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for record in plain:
            more = {}
            if record.group in shown:
                curves = {key: _curve(client, record.run_id, key) for key in CURVES if key in record.metrics}
                more = {"curves": curves, "pictures": _pictures(client, record.run_id, folder)}
            records.append(Record(**(record.__dict__ | more)))
    return records


def _record(run: "Run") -> Record:
    tags, params = run.data.tags, run.data.params
    options = {k.removeprefix("cfg."): v for k, v in params.items() if k.startswith("cfg.") and k not in ASIDE}
    doubtful = [f"{key}: {value}" for key, value in tags.items() if key.startswith(("warning.", "not_finite."))]
    return Record(
        name=run.info.run_name or run.info.run_id,
        group=tags.get("config_over_seeds", run.info.run_id),
        seed=tags.get("seed", ""),
        run_id=run.info.run_id,
        options=options,
        metrics=run.data.metrics,
        notes=doubtful if run.info.status == "FINISHED" else [f"the run is {run.info.status}", *doubtful],
    )


def _curve(client: "MlflowClient", run_id: str, key: str) -> list[tuple[float, float]]:
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, key))


def _pictures(client: "MlflowClient", run_id: str, folder: str) -> dict[str, bytes]:
    """Return the last picture of every image key, and the latent map, as PNG files."""
    listed = [item.path for where in ("images", "figures") for item in client.list_artifacts(run_id, where)]
    last: dict[str, tuple[int, str]] = {}
    for path in listed:
        found = re.fullmatch(r"images/(.+?)[%+]step[%+](\d+)[%+].*\.png", path)
        key, step = (found[1].replace("~", "/"), int(found[2])) if found else (path, 0)
        if (found or path == "figures/latent_map.png") and step >= last.get(key, (0, ""))[0]:
            last[key] = (step, path)
    order = sorted(last, key=lambda key: (key.startswith("figures"), key == "reconstructions", key))
    return {key: Path(client.download_artifacts(run_id, last[key][1], folder)).read_bytes() for key in order}


if __name__ == "__main__":
    entry.main(main)
