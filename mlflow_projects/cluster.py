"""Where runs run: the options that `main`, `study` and `sweep` share, and the Ray cluster that they stand for.

`--address` local, auto or host:port; `--storage` a folder that all nodes see or s3://...; `--cpus`, `--gpus` for each
run (by default a GPU where there are any); `--concurrency` runs at once; `--max-failures` restarts of a run.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geovae.tracking import MlflowTracker
from mlflow_projects import entry
from tuning.nodes import (
    Resources,
    check_nodes,
    check_resources,
    check_store,
    configure_environment,
    connected,
    default_gpus,
)
from tuning.storage import Storage

WHERE = {
    "address": "local",
    "storage": "",
    "cpus": "1",
    "gpus": "auto",
    "concurrency": "",
    "max-failures": "3",
}


def resources_of(values: Mapping[str, str]) -> dict[str, Any]:
    """Return `cpus`, `gpus` (None for auto), `concurrency` and `max_failures` as numbers.

    Raises:
        ValueError: for a value that is none, or out of its range.
    """
    return {
        "cpus": amount("cpus", values["cpus"]),
        "gpus": None if values["gpus"] == "auto" else amount("gpus", values["gpus"], zero=True),
        "concurrency": entry.whole("concurrency", values["concurrency"], 1) if values["concurrency"] else None,
        "max_failures": entry.whole("max-failures", values["max-failures"], 0),
    }


@contextmanager
def reached(values: Mapping[str, str], device: str = "auto") -> Iterator[Resources]:
    """Connect to the cluster at `values["address"]`; give the resources of a run, which some node has.

    Args:
        values: of the options in `WHERE`.
        device: of the runs; on `cpu` they take no GPU.

    Raises:
        ClusterError: if the tracking server or the cluster cannot be reached, or no node has the resources.
        ValueError: for an option.
    """
    resources = resources_of(values)
    configure_environment()
    check_store(entry.tracking_uri())
    with connected(values["address"]):
        if resources["gpus"] is None:
            resources["gpus"] = 0.0 if device == "cpu" else default_gpus()
        yield check_resources(Resources(**resources))


def settle(storage: str, tracker: MlflowTracker) -> str:
    """Return the storage, by default a folder of the run's own, seen by every node.

    Raises:
        ClusterError: naming a node and what it lacks.
        PermissionError: if nothing can be written there.
    """
    storage = storage or str(tracker.output / "trials")
    if "://" not in storage:
        storage = str(entry.writable(Path(storage).absolute()))
    Storage(storage).check_writable()
    check_nodes(storage, entry.tracking_uri())
    return storage


def amount(name: str, text: str, zero: bool = False) -> float:
    """Return the positive number (with `zero`, or 0) that `text` stands for.

    Raises:
        ValueError: if it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and (number > 0 or (zero and number == 0))):
        raise ValueError(f"`{name}` must be a {'number of 0 or more' if zero else 'positive number'}, got {text!r}")
    return number
