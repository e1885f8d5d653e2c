"""Where runs run: the options that `main`, `study` and `sweep` share, and the Ray cluster that they stand for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from experiments.judge import Result
from geovae.checks import check_count, check_not_negative, check_positive
from geovae.tracking import MlflowTracker
from mlflow_projects import entry
from tuning.nodes import Resources, check_nodes, check_resources, check_store, connected, default_gpus
from tuning.plan import Failure, Task
from tuning.progress import Progress
from tuning.storage import Storage


@dataclass(frozen=True)
class Cluster:
    """Where runs run.

    Args:
        address: of a Ray cluster: local, auto or host:port.
        storage: folder that all nodes see, or s3://...; by default one below the run's folder.
        cpus: for each run.
        gpus: for each run, at most 1; auto: one where there are any.
        concurrency: runs at once; by default as many as fit.
        max_failures: restarts of a run.
    """

    address: str = "local"
    storage: str = ""
    cpus: float = 1.0
    gpus: float | Literal["auto"] = "auto"
    concurrency: int | None = None
    max_failures: int = 3

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_positive(cpus=self.cpus)
        if self.gpus != "auto":
            check_not_negative(gpus=self.gpus)
            if self.gpus > 1:
                raise ValueError(f"`gpus` must be at most 1, got {self.gpus:g}: a run uses one GPU")
        if self.concurrency is not None:
            check_count(concurrency=self.concurrency)
        check_count(low=0, max_failures=self.max_failures)


@contextmanager
def reached(cluster: Cluster, device: str = "auto") -> Iterator[Resources]:
    """Connect to the cluster, and give the resources of each run on `device` after checking that a node has them.

    Raises:
        ClusterError: if the tracking server or the cluster cannot be reached, or no node has the resources.
    """
    check_store(entry.tracking_uri())
    if cluster.address == "local":  # a terminal that says nothing looks as if it hangs
        print("Starting Ray and its workers: the first epoch comes after 20 to 60 seconds", flush=True)
    with connected(cluster.address):
        # on `cpu` none: a GPU that its run does not use would keep other runs waiting
        gpus = cluster.gpus if cluster.gpus != "auto" else 0.0 if device == "cpu" else default_gpus()
        wanted = Resources(cluster.cpus, gpus, concurrency=cluster.concurrency, max_failures=cluster.max_failures)
        yield check_resources(wanted)


def run_tasks(
    tasks: Mapping[str, Task], tracker: MlflowTracker, storage: str, resources: Resources
) -> dict[str, Result | Failure]:
    """Run every task as a child of `tracker`, and show the progress on stdout."""
    progress = Progress(len(tasks))
    # by its name, now: it imports Ray, and `--help` need not wait for that
    execute = import_module("tuning.execute").execute
    outcomes: dict[str, Result | Failure] = execute(
        tasks, tracker, storage=storage, resources=resources, on_event=progress
    )
    progress.show()
    return outcomes


def settle(storage: str, tracker: MlflowTracker) -> str:
    """Return the storage, by default a folder below the run's, after checking that every node sees it.

    Raises:
        ClusterError: naming a node and what it lacks.
        PermissionError: if nothing can be written there.
    """
    storage = storage or str(tracker.output / "trials")
    if "://" not in storage:  # absolute: workers have another working directory
        storage = str(entry.writable(Path(storage).absolute()))
    Storage(storage).check_writable()
    check_nodes(storage, entry.tracking_uri())
    return storage
