"""`python -m mlflow_projects.reap`: end runs that are RUNNING in MLflow although their process is gone.

The last sign of life of a run is the newest metric of it or of a run below it.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from geovae.checks import check_count
from mlflow_projects import entry
from tuning.runs import search_all


def main(minutes: int = 60, experiment: str = entry.EXPERIMENT) -> None:
    """End as KILLED every RUNNING run whose last sign of life is too old.

    Args:
        minutes: since the last sign of life; choose more than an epoch of your runs takes.
        experiment: name of the runs' experiment.

    Examples:
        python -m mlflow_projects.reap --minutes 60
    """
    from mlflow import MlflowClient

    check_count(minutes=minutes)
    client = MlflowClient()
    searched = client.get_experiment_by_name(experiment)
    if searched is None:
        raise FileNotFoundError(f"no experiment {experiment!r} in {entry.tracking_uri()}")
    runs = search_all(client, searched.experiment_id, "attributes.status = 'RUNNING'")
    signs = last_signs(runs)
    now = time.time() * 1000
    stale = [run for run in runs if now - signs[run.info.run_id] > minutes * 60_000]
    for run in stale:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(signs[run.info.run_id] / 1000))
        client.set_tag(run.info.run_id, "stop_reason", f"no sign of life since {when}")
        client.set_terminated(run.info.run_id, "KILLED")
        print(f"{run.info.run_id} {run.info.run_name}: KILLED, no sign of life since {when}")
    print(f"{len(stale)} of {len(runs)} running runs ended")


def last_signs(runs: Sequence[Any]) -> Mapping[str, float]:
    """Return the time (ms since 1970) of the last record of each run or of any run below it."""
    # of the metrics with their times, which the public `metrics` lack
    signs = {r.info.run_id: max([r.info.start_time, *(m.timestamp for m in r.data._metric_objs)]) for r in runs}
    # a run that trains is a sign of life of all runs above it, which record nothing meanwhile
    parents = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in runs}
    for run_id in list(parents):
        parent = parents[run_id]
        while parent in signs:
            signs[parent] = max(signs[parent], signs[run_id])
            parent = parents[parent]
    return signs


if __name__ == "__main__":
    entry.main(main)
