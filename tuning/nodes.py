"""Reaching a Ray cluster, and checking before anything starts that its nodes can do the work."""

import logging
import os
import signal
import socket
import tempfile
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tuning.place import Place

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = ["runs", "mlruns", "mlartifacts", "data_folders", "mlflow.db*", ".venv", ".git", "**/__pycache__"]
SECONDS = 10  # to reach a cluster or a tracking server


class ClusterError(ValueError):
    """A cluster that cannot be used for this sweep; the message is one sentence for the user."""


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Start Ray on this machine (`local` or nothing) or connect to a cluster (`auto` or host:port), and leave it after.

    Code reaches the nodes as Ray's working directory, unless the job that this is part of has brought it already;
    the packages of requirements.txt must be installed there.

    Raises:
        ClusterError: if there is no cluster within 10 s.
    """
    import ray

    quiet()
    options: dict[str, Any] = {"include_dashboard": False} if address in ("", "local") else _remote(address)
    if ray.is_initialized():  # tests and notebooks
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address or "local", log_to_driver=False, configure_logging=False, **options)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at address={address}: {_first(error)}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray's own handler prints where every thread was
    try:
        yield
    finally:
        ray.shutdown()


def quiet() -> None:
    """Set what Ray reads from the environment: no usage statistics, no log files of its own, no table of its own."""
    for name, value in {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_DEDUP_LOGS": "1",
        "RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES": "",  # NOT_SHIPPED has them; by default Ray warns of each
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # MLflow is the sweep's memory; nothing is unpickled from disk
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)  # it misses the log files that it was told not to write


def _remote(address: str) -> dict[str, Any]:
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise ClusterError(f"`address` must be auto, local or host:port, got {address!r}")
        try:
            socket.create_connection((host, int(port)), SECONDS).close()
        except OSError as error:
            raise ClusterError(f"no Ray cluster answers at address={address}: {error}") from error
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):  # `ray job submit` has shipped the code
        return {}
    return {"runtime_env": {"working_dir": str(ROOT), "excludes": NOT_SHIPPED}}


def gpus_of() -> float:
    """Return how many GPUs a run takes where nobody has said it: one, on a cluster that has any."""
    import ray

    return 1.0 if any(node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]) else 0.0


def check_resources(cpus: float, gpus: float) -> int:
    """Return how many trials of these resources run at once on the cluster.

    Raises:
        ClusterError: if no node has them.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    asked = {name: amount for name, amount in {"CPU": cpus, "GPU": gpus}.items() if amount > 0}
    fit = sum(min(int(node.get(name, 0) / amount + 1e-9) for name, amount in asked.items()) for node in nodes)
    if fit < 1:
        most = ", ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise ClusterError(f"no node has the {cpus:g} CPUs and {gpus:g} GPUs that a trial asks for; nodes have: {most}")
    return fit


def check_store(uri: str) -> None:
    """Raise a ClusterError if the tracking server does not answer within 10 s."""
    url = urlsplit(uri)
    if url.scheme not in ("http", "https"):
        return
    shown = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
    try:
        urllib.request.urlopen(f"{shown}{url.path.rstrip('/')}/health", timeout=SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answered
    except OSError as error:
        raise ClusterError(
            f"no tracking server answers at {shown}: {error}; start it or set MLFLOW_TRACKING_URI"
        ) from error


def check_nodes(storage: str, uri: str) -> None:
    """Ask every node whether it has the code, sees the storage and reaches the tracking store.

    Raises:
        ClusterError: naming the node and what it lacks.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    url = urlsplit(uri)
    if url.scheme not in ("http", "https"):
        raise ClusterError(
            f"the tracking store {url.scheme}: is a file of this machine, and the cluster has {len(nodes)} nodes; "
            "start `mlflow server` and set MLFLOW_TRACKING_URI=http://HOST:PORT"
        )
    if url.username:
        raise ClusterError(
            "the tracking URI holds a user and a password, which would travel through the cluster; leave them out "
            "and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment of every node"
        )
    marker = f".seen-{uuid.uuid4().hex}"
    place = Place(storage)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / marker
        file.write_text("geovae")
        place.keep("", file)
    ask = ray.remote(num_cpus=0)(_look_around)
    asked = {
        node["NodeManagerAddress"]: ask.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(storage, marker, uri)
        for node in nodes
    }
    try:
        for name, answer in asked.items():
            if lack := ray.get(answer, timeout=120):
                raise ClusterError(f"node {name} {lack}")
    except ray.exceptions.RayError as error:
        raise ClusterError(f"a node cannot run the project's code: {_first(error)}") from error
    finally:
        if not place.remote:
            (Path(storage) / marker).unlink()


def _look_around(storage: str, marker: str, uri: str) -> str:
    """Return what this node lacks, in words, or nothing."""
    place = Place(storage)
    with tempfile.TemporaryDirectory() as folder:
        if not place.fetch(marker, Path(folder) / "marker"):
            return f"does not see the storage {storage}: give a folder that all nodes share, or s3://..., with storage="
    try:
        check_store(uri)
    except ClusterError as error:
        return f"cannot reach the tracking server: {error}"
    return ""


def _first(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
