"""`mlflow run . -e report`: the runs of a search side by side, as one HTML page that needs nothing else."""

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.help import run_url
from experiments.run_report import SHOWN, Record, group_runs, write_run_report
from geovae.checks import check_count
from geovae.files import atomic_path
from mlflow_projects import entry
from mlflow_projects.registry.versions import quiet

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

SEARCH = "attributes.status = 'FINISHED'"
# options that do not distinguish configurations; every sampler has its row
LEFT_OUT = ("cfg.seed", "cfg.device", "cfg.images_every", "cfg.samplers")
CURVES = ("train/loss", "val/loss", "train/reconstruction", "val/reconstruction", "train/kl", "val/kl")


def main(
    search: str = SEARCH, experiment: str = "", output: Path = Path("report.html"), title: str = "", limit: int = 200
) -> None:
    """Write a page on the runs of an experiment that a search finds; runs that differ in the seed alone make one row.

    Args:
        search: as in the UI: `tags.mlflow.parentRunId = 'ID'`, `metrics."score/fid" < 20`; docs/names.md lists the
            names. By default all finished runs.
        experiment: name of the experiment; by default the one of the environment, or geovae.
        output: the HTML file.
        title: of the page.
        limit: the most runs to read, the newest first.

    Examples:
        python -m mlflow_projects.report --search "tags.dataset = 'mnist_5k'" --output report.html
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
    # a configuration's run holds the means of its seeds, which are found themselves
    no_means = [run for run in found if run.data.tags.get("role") != "configuration"]
    runs = [run for run in no_means if "model" in run.data.tags and run.data.metrics]
    if not runs:
        raise ValueError(f"no run of a model in {searched.name!r} matches {search!r}")
    entry.check_writable(output.parent)
    note = f"{len(runs)} runs of the experiment {searched.name} found by: {search}"
    data = ", ".join(dict.fromkeys(run.data.tags.get("dataset", "unknown data") for run in runs))
    # a folder that goes: the pictures are in the page
    with quiet(), tempfile.TemporaryDirectory() as folder:
        records = read(client, runs, Path(folder))
        page = write_run_report(title or f"Runs on {data}", records, Path(folder), note=note).read_text()
    with entry.open_run("report") as tracker:
        tracker.tags({"role": "report"})
        with atomic_path(output) as temporary:
            temporary.write_text(page)
        tracker.text("report.html", page)
    print(f"{output}: {note}")


def _experiment(client: "MlflowClient", name: str) -> "Experiment":
    """Return the experiment called `name`; by default the one of the environment, or geovae."""
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME", "")
    chosen = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if chosen and not name:
        return client.get_experiment(chosen)
    experiment = client.get_experiment_by_name(name or entry.EXPERIMENT)
    if experiment is None:
        known = ", ".join(repr(e.name) for e in client.search_experiments())
        raise ValueError(f"no experiment {name or entry.EXPERIMENT!r}; there are {known}")
    return experiment


def read(client: "MlflowClient", runs: Sequence["Run"], folder: Path) -> list[Record]:
    """Return the records of runs; only those that the page shows have curves and pictures, fetched into `folder`."""
    records = [_record(client, run) for run in runs]
    shown = {record.group for group in group_runs(records)[:SHOWN] for record in group.runs}
    return [_with_pictures(client, record, folder) if record.group in shown else record for record in records]


def _record(client: "MlflowClient", run: "Run") -> Record:
    tags, params = run.data.tags, run.data.params
    options = {k.removeprefix("cfg."): v for k, v in params.items() if k.startswith("cfg.") and k not in LEFT_OUT}
    warnings = [
        f"{key}: {value}" for key, value in tags.items() if key.startswith(("warning.", "not_finite.", "undertrained"))
    ]
    return Record(
        name=run.info.run_name or run.info.run_id,
        group=tags.get("config_over_seeds", run.info.run_id),
        seed=tags.get("seed", ""),
        run_id=run.info.run_id,
        headline=tags.get("headline", ""),
        url=run_url(client.tracking_uri, run.info.experiment_id, run.info.run_id),
        options=options,
        metrics=run.data.metrics,
        warnings=warnings if run.info.status == "FINISHED" else [f"the run is {run.info.status}", *warnings],
    )


def _with_pictures(client: "MlflowClient", record: Record, folder: Path) -> Record:
    points = {key: client.get_metric_history(record.run_id, key) for key in CURVES if key in record.metrics}
    curves = {key: sorted((point.step, point.value) for point in found) for key, found in points.items()}
    return replace(record, curves=curves, pictures=_pictures(client, record.run_id, folder))


def _pictures(client: "MlflowClient", run_id: str, folder: Path) -> dict[str, bytes]:
    """Return the last picture of every image key, and the latent map, as PNG files."""
    paths = [item.path for where in ("images", "figures") for item in client.list_artifacts(run_id, where)]
    last: dict[str, tuple[int, str]] = {}
    for path in paths:
        # MLflow's name of an image: key, step, time and an id, joined by % or + in different versions
        match = re.fullmatch(r"images/(.+?)[%+]step[%+](\d+)[%+].*\.png", path)
        key, step = (match[1].replace("~", "/"), int(match[2])) if match else (path, 0)
        if (match or path == "figures/latent_map.png") and step >= last.get(key, (0, ""))[0]:
            last[key] = (step, path)
    # samples first, then reconstructions, then figures
    order = sorted(last, key=lambda key: (key.startswith("figures"), key == "reconstructions", key))
    target = folder / "runs" / run_id
    target.mkdir(parents=True, exist_ok=True)
    return {key: Path(client.download_artifacts(run_id, last[key][1], str(target))).read_bytes() for key in order}


if __name__ == "__main__":
    entry.main(main)
