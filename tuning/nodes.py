"""Connecting to a Ray cluster, and checking before a sweep starts that its nodes can run it."""

import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from geovae.tracking import without_password
from tuning.storage import Storage

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = ["runs", "mlruns", "mlartifacts", "data_folders", "mlflow.db*", ".venv", ".git", "**/__pycache__"]
SECONDS = 10  # timeout for a connection to a cluster or a tracking server


class ClusterError(ValueError):
    """A cluster that cannot be used for this sweep; the message is one sentence for the user."""


@dataclass(frozen=True)
class Resources:
    """What each trial may use, and the limits of all trials."""

    cpus: float = 1
    gpus: float = 0  # trials share a GPU by fractions
    concurrency: int | None = None  # trials at once; None: as many as fit on the cluster
    time_budget: float | None = None  # seconds after which all trials are stopped
    max_failures: int = 3  # restarts of a trial, from its checkpoint, after its process or node died


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Start Ray on this machine (`local` or empty) or connect to a cluster (`auto` or host:port), until the end.

    The code is shipped to the nodes as Ray's working directory, unless `ray job submit` has shipped it already. The
    packages of requirements.txt must be installed there.

    Raises:
        ClusterError: if there is no cluster within 10 s.
    """
    import ray

    configure_environment()
    alone = address in ("", "local")
    options: dict[str, Any] = {"include_dashboard": False} if alone else _remote(address)
    if ray.is_initialized():  # tests and notebooks
        yield
        return
    if alone:
        # Ray listens on all addresses of the machine, and runs the code of whoever connects: it demands a token, unless
        # RAY_AUTH_MODE says otherwise. This one is of this process alone, and in no file
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # it warns that it demands one
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address or "local", log_to_driver=False, configure_logging=False, **options)
    except Exception as error:  # a bare one, where a busy machine does not start Ray within its 30 s
        remedy = "; set RAY_TMPDIR to a folder with a shorter path" if "AF_UNIX" in str(error) else ""
        raise ClusterError(f"no Ray cluster at address={address or 'local'}: {_one_line(error)}{remedy}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray's own handler dumps the stacks of all threads
    try:
        yield
    finally:
        ray.shutdown()


def configure_environment() -> None:
    """Set the variables that Ray reads: no usage statistics, no log files and no progress table of its own."""
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_DEDUP_LOGS": "1",
        "RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES": "",  # they are in NOT_SHIPPED; Ray warns of each
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # never read: a sweep resumes from MLflow
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)  # warns of log files that are turned off


def _remote(address: str) -> dict[str, Any]:
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise ClusterError(f"`address` must be auto, local or host:port, got {address!r}")
        try:
            socket.create_connection((host, int(port)), SECONDS).close()
        except OSError as error:
            raise ClusterError(f"no Ray cluster answers at address={address}: {error}") from error
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):  # set by `ray job submit`, which has shipped the code
        return {}
    return {"runtime_env": {"working_dir": str(ROOT), "excludes": NOT_SHIPPED}}


def default_gpus() -> float:
    """Return the GPUs of a run if the user gives no number: one on a cluster that has any."""
    return 1.0 if any(node["Resources"].get("GPU", 0) for node in _alive_nodes()) else 0.0


def check_resources(resources: Resources) -> Resources:
    """Return the resources with `concurrency`: how many trials run at once on the cluster.

    Raises:
        ClusterError: if no node has the resources of a trial.
    """
    nodes = [node["Resources"] for node in _alive_nodes()]
    needed = {name: n for name, n in {"CPU": resources.cpus, "GPU": resources.gpus}.items() if n > 0}
    # 1e-9: ten trials of 0.1 GPU fit on one GPU, whatever the rounding of the division
    fit = sum(min(int(node.get(name, 0) / n + 1e-9) for name, n in needed.items()) for node in nodes)
    if fit < 1:
        most = ", ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
        wanted = f"{resources.cpus:g} CPUs and {resources.gpus:g} GPUs"
        raise ClusterError(f"no node has the {wanted} of a trial; nodes have: {most}")
    return replace(resources, concurrency=min(resources.concurrency or fit, fit))


def check_store(uri: str) -> None:
    """Raise a ClusterError if the tracking server does not answer within 10 s."""
    if urlsplit(uri).scheme not in ("http", "https"):
        return
    shown = without_password(uri).partition("?")[0].rstrip("/")
    try:
        urllib.request.urlopen(f"{shown}/health", timeout=SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answered, if only that it wants a password
    except OSError as error:
        remedy = "start it or set MLFLOW_TRACKING_URI"
        raise ClusterError(f"no tracking server answers at {shown}: {error}; {remedy}") from error


def check_nodes(storage: str, uri: str) -> None:
    """Check that every node can import the code, see the storage and reach the tracking store.

    Raises:
        ClusterError: naming the node and what it lacks.
    """
    nodes = _alive_nodes()
    if len(nodes) < 2:
        return
    _check_shared(uri, len(nodes))
    marker = f".seen-{uuid.uuid4().hex}"
    place = Storage(storage)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / marker
        file.write_text("geovae")
        place.upload("", file)
    try:
        _check_each(nodes, storage, marker, uri)
    finally:
        if not place.remote:
            (Path(storage) / marker).unlink()


def _check_shared(uri: str, n_nodes: int) -> None:
    """Check that all nodes may use the tracking URI."""
    url = urlsplit(uri)
    if url.scheme not in ("http", "https"):
        raise ClusterError(
            f"the tracking store {url.scheme}: is a file of this machine, and the cluster has {n_nodes} nodes; "
            "start `mlflow server` and set MLFLOW_TRACKING_URI=http://HOST:PORT"
        )
    if without_password(uri) != uri:
        raise ClusterError(
            "the tracking URI holds a user and a password, which would be sent through the cluster; remove them "
            "and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment of every node"
        )


def _check_each(nodes: list[dict[str, Any]], storage: str, marker: str, uri: str) -> None:
    """Run `missing_on_node` on all nodes at once."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(num_cpus=0)(missing_on_node)
    answers = {}
    for node in nodes:
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        answers[node["NodeManagerAddress"]] = remote.options(scheduling_strategy=here).remote(storage, marker, uri)
    try:
        for name, answer in answers.items():
            if missing := ray.get(answer, timeout=120):
                raise ClusterError(f"node {name} {missing}")
    except ray.exceptions.RayError as error:
        raise ClusterError(f"a node cannot run the project's code: {_one_line(error)}") from error


def missing_on_node(storage: str, marker: str, uri: str) -> str:
    """Return in words what this node lacks: the storage, seen by its file `marker`, or the tracking server at `uri`."""
    with tempfile.TemporaryDirectory() as folder:
        if not Storage(storage).download(marker, Path(folder) / "marker"):
            return f"does not see the storage {storage}: give a folder that all nodes share, or s3://..., with storage="
    try:
        check_store(uri)
    except ClusterError as error:
        return f"cannot reach the tracking server: {error}"
    return ""


def _alive_nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
