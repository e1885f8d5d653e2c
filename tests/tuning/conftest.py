"""Fixtures for sweeps: a tracking server on SQLite or PostgreSQL, a Ray cluster of three nodes, and drivers."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.tuning.exact import EPOCHS, SPACE

ROOT = Path(__file__).parents[2]
TINY = {
    "dataset": "digits",
    "model.network": "mlp",
    "model.width": "16",
    "n_samples": "60",
    "extractor": "pixels",
    "scores": "frechet",
    "samplers": "prior",
}


def environment(**more):
    names = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # Ray lowers the priority of workers; other tests would slow them down
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_EXPERIMENT_ID"}
    return {**inherited, **names, **more}


def until(what, seconds=180, pause=0.2):
    """Wait until `what()` is true, and return its value."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not true after {seconds} s"
        time.sleep(pause)
    return found


class Server:
    """An `mlflow server` of two processes that can be paused."""

    def __init__(self, folder, backend):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{port}"
        command = [
            "mlflow",
            "server",
            "--backend-store-uri",
            backend,
            "--artifacts-destination",
            str(folder / "artifacts"),
        ]
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        until(self.answers, 120)

    def answers(self):
        try:
            return urllib.request.urlopen(self.uri + "/health", timeout=5).status == 200
        except OSError:
            assert self.process.poll() is None, "the server ended"
            return False

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def stop(self):
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        self.process.wait(30)
        self.log.close()


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory):
    """A tracking server on SQLite; all tests share it, since it takes half a minute to start."""
    folder = tmp_path_factory.mktemp("sqlite")
    running = Server(folder, f"sqlite:///{folder / 'mlflow.db'}")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A tracking server on a throw-away PostgreSQL."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import postgres as tool
    finally:
        sys.path.pop(0)
    try:
        tool.programs()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    process = subprocess.Popen([sys.executable, str(ROOT / "tools" / "postgres.py")], stdout=subprocess.PIPE, text=True)
    running = Server(tmp_path_factory.mktemp("postgres"), process.stdout.readline().strip())
    yield running
    running.stop()
    process.terminate()
    process.wait(30)
    process.stdout.close()


@pytest.fixture(params=["sqlite", "postgres"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def cluster():
    """A head without CPUs and two nodes with one CPU and one fake GPU each.

    One for all tests: starting Ray takes half a minute, and a test that kills a node adds another.
    """
    for name, value in environment().items():
        os.environ[name] = value
    from ray.cluster_utils import Cluster

    quick = {"health_check_period_ms": 500}  # a dead node is noticed in seconds
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.workers = [made.add_node(num_cpus=1, num_gpus=1) for _ in range(2)]
    made.wait_for_nodes()
    yield made
    made.shutdown()


class Sweep:
    """Starts drivers of sweeps, and reads their runs from the store."""

    def __init__(self, folder, uri):
        import mlflow

        self.folder, self.uri = folder, uri
        self.client = mlflow.MlflowClient(uri)
        self.id = None

    def start(self, **options):
        flags = [f"--{name}={value}" for name, value in options.items()]
        return subprocess.Popen(
            [sys.executable, "-m", "mlflow_projects.sweep", *flags],
            cwd=self.folder,
            env=environment(MLFLOW_TRACKING_URI=self.uri),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def module(self, name, *flags):
        """Run another entry point to its end."""
        return subprocess.run(
            [sys.executable, "-m", f"mlflow_projects.{name}", *flags],
            cwd=self.folder,
            env=environment(MLFLOW_TRACKING_URI=self.uri),
            capture_output=True,
            text=True,
        )

    def begin(self, **options):
        """Start a sweep and wait for its id."""
        process = self.start(**options)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("sweep "):
                self.id = line.split()[1].rstrip(":")
                return process
        raise AssertionError("".join(lines))

    def run(self, **options):
        """Run a sweep to its end; return what it printed."""
        process = self.start(**options)
        text, _ = process.communicate(timeout=900)
        for line in text.splitlines():
            if line.startswith("sweep ") and self.id is None:
                self.id = line.split()[1].rstrip(":")
        assert process.returncode == 0, text
        return text

    def runs(self, role):
        experiment = self.client.get_experiment_by_name("geovae").experiment_id
        return list(
            self.client.search_runs(
                [experiment], f"tags.sweep = '{self.id}' and tags.role = '{role}'", max_results=5000
            )
        )

    def states(self, role):
        return Counter(run.info.status for run in self.runs(role))

    def files(self, run_id, folder=None):
        found = []
        for item in self.client.list_artifacts(run_id, folder):
            found += self.files(run_id, item.path) if item.is_dir else [item.path]
        return found


@pytest.fixture
def sweep(tmp_path, server):
    return Sweep(tmp_path, server.uri)


@pytest.fixture
def options(cluster, tmp_path):
    """9 configurations, 3 of which fail, on 2 seeds each."""
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    storage = f"{tmp_path}/storage"
    on = {"address": cluster.address, "storage": storage, "training.epochs": EPOCHS, "data.augment": 0}
    return {**TINY, **on, "space": tmp_path / "space.yaml", "search": "grid", "trials": 9, "seeds": 2}
