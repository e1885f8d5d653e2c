"""The MLflow tracker against a real store: SQLite, and a real server that dies and comes back."""

import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings

import numpy as np
import pytest

from geovae.tracking import MlflowTracker, NullTracker, sync, without_password

mlflow = pytest.importorskip("mlflow")

STEPS = 7


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One SQLite store for this file: making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def store(database, tmp_path):
    """A fresh experiment: (tracking URI, experiment id)."""
    client = mlflow.MlflowClient(database)
    return database, client.create_experiment(tmp_path.name, artifact_location=str(tmp_path / "artifacts"))


def report(tracker):
    """Say one of everything."""
    from matplotlib import pyplot

    tracker.params({"cfg.a": 1, "cfg.long": "x" * 7000})
    tracker.tags({"model": "vae"})
    for step in range(1, STEPS + 1):
        tracker.metrics({"train/loss": 1 / step, "val/loss": 2 / step}, step=step)
    tracker.image("samples/prior", np.zeros((8, 8), np.uint8), step=1)
    tracker.image("samples/prior", np.zeros((8, 8, 3), np.uint8), step=2)
    tracker.text("notes/words.txt", "hello")
    tracker.figure("figures/empty.png", pyplot.figure())
    tracker.dataset(name="digits", digest="d" * 32, source="sklearn", context="train", shape=(5, 1, 8, 8))
    tracker.metrics({"score/fd_pixels": 3.0})
    tracker.model("vae-digits", {"score/fd_pixels": "train", "score/kid_pixels": "train"})


def check(client, run_id, status="FINISHED"):
    """Everything that `report` said is there, once."""
    run = client.get_run(run_id)
    assert run.info.status == status
    assert run.data.params["cfg.a"] == "1"
    assert len(run.data.params["cfg.long"]) == 6000
    assert run.data.tags["model"] == "vae"
    (made,) = run.outputs.model_outputs
    linked = [(m.key, m.value, m.dataset_name) for m in client.get_logged_model(made.model_id).metrics]
    assert linked == [("score/fd_pixels", 3.0, "digits")]
    for key, factor in {"train/loss": 1, "val/loss": 2}.items():
        points = client.get_metric_history(run_id, key)
        assert sorted((p.step, p.value) for p in points) == [
            (s, pytest.approx(factor / s, rel=1e-6)) for s in range(1, STEPS + 1)
        ]
    images = [item.path for item in client.list_artifacts(run_id, "images") if item.path.endswith(".png")]
    assert len(images) == 2
    assert [item.path for item in client.list_artifacts(run_id, "notes")] == ["notes/words.txt"]
    assert [item.path for item in client.list_artifacts(run_id, "figures")] == ["figures/empty.png"]
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("digits", "d" * 32)
    assert [(tag.key, tag.value) for tag in dataset.tags] == [("mlflow.data.context", "train")]


def test_everything_arrives_and_the_run_ends(store, tmp_path):
    uri, experiment = store
    with MlflowTracker(tmp_path / "run", experiment_id=experiment, name="one", tracking_uri=uri) as tracker:
        report(tracker)
        run_id = tracker.run_id
    client = mlflow.MlflowClient(uri)
    check(client, run_id)
    assert client.get_run(run_id).info.run_name == "one"
    assert not (tmp_path / "run" / "outbox").exists()


def test_a_run_made_by_others_is_filled_and_left_for_them_to_end(store, tmp_path):
    uri, experiment = store
    client = mlflow.MlflowClient(uri)
    run_id = client.create_run(experiment).info.run_id
    with MlflowTracker(tmp_path / "run", run_id=run_id, experiment_id=experiment, tracking_uri=uri) as tracker:
        report(tracker)
    check(client, run_id, status="RUNNING")


def test_children_are_nested_and_end_as_they_did(store, tmp_path):
    uri, experiment = store
    client = mlflow.MlflowClient(uri)
    ended = {}
    with MlflowTracker(tmp_path / "run", experiment_id=experiment, name="parent", tracking_uri=uri) as parent:
        for error, status in ((None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")):
            try:
                with parent.child(status, {"role": "trial"}) as child:
                    ended[child.run_id] = status
                    if error:
                        raise error("x")
            except (ValueError, KeyboardInterrupt):
                pass
    for run_id, status in ended.items():
        run = client.get_run(run_id)
        assert run.info.status == status
        assert run.data.tags["mlflow.parentRunId"] == parent.run_id
        assert run.data.tags["role"] == "trial"


@pytest.mark.parametrize("wanted", ["true", "false"])
def test_the_machine_is_watched_where_mlflow_s_own_variable_says_so(store, tmp_path, monkeypatch, wanted):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", wanted)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    uri, experiment = store
    client = mlflow.MlflowClient(uri)
    run_id = client.create_run(experiment).info.run_id
    for _ in range(2):  # the second goes on where the first has ended
        with MlflowTracker(tmp_path / "run", run_id=run_id, tracking_uri=uri):
            time.sleep(0.5)
    steps = [point.step for point in client.get_metric_history(run_id, "system/cpu_utilization_percentage")]
    assert len(steps) == len(set(steps))
    assert bool(steps) == (wanted == "true")


def test_numbers_are_kept_as_they_are(store, tmp_path):
    uri, experiment = store
    with MlflowTracker(tmp_path / "run", experiment_id=experiment, tracking_uri=uri) as tracker:
        tracker.metrics({"third": 1 / 3, "small": -2e-9 / 3, "count": 123456789})
    metrics = mlflow.MlflowClient(uri).get_run(tracker.run_id).data.metrics
    assert metrics == {"third": 1 / 3, "small": -2e-9 / 3, "count": 123456789}


def test_numbers_that_are_not_finite_become_tags(store, tmp_path):
    uri, experiment = store
    with MlflowTracker(tmp_path / "run", experiment_id=experiment, tracking_uri=uri) as tracker:
        tracker.metrics({"good": 1.0, "bad": math.nan, "worse": math.inf})
    run = mlflow.MlflowClient(uri).get_run(tracker.run_id)
    assert run.data.metrics == {"good": 1.0}
    assert run.data.tags["not_finite.bad"] == "nan"
    assert run.data.tags["not_finite.worse"] == "inf"


def test_what_the_store_refuses_is_said_and_does_not_block_the_rest(store, tmp_path):
    uri, experiment = store
    with pytest.warns(UserWarning, match='MLflow refused a metrics record, .*Invalid value "a,b"'):  # noqa: SIM117
        with MlflowTracker(tmp_path / "run", experiment_id=experiment, tracking_uri=uri) as tracker:
            tracker.metrics({"a,b": 1.0})
            tracker.tags({"after": "yes"})
            tracker.metrics({"c": 2.0})
    run = mlflow.MlflowClient(uri).get_run(tracker.run_id)
    assert run.data.tags["after"] == "yes"
    assert run.data.metrics == {"c": 2.0}


def test_the_null_tracker_takes_everything():
    with NullTracker() as tracker:
        report(tracker)
        report(tracker.child("x"))
        assert tracker.run_id is None


class Server:
    """A real `mlflow server` on a free loopback port, which can be killed and started again."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        options = [f"--backend-store-uri=sqlite:///{self.folder / 'server.db'}", "--workers=1", "--host=127.0.0.1"]
        options += [f"--port={self.port}", f"--artifacts-destination={self.folder / 'served'}"]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *options],
            env=environment,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                if urllib.request.urlopen(f"{self.uri}/health", timeout=1).status == 200:
                    return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError("mlflow server did not start")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:.*:urllib3.exceptions.HTTPWarning")
def test_a_server_that_dies_neither_stops_the_run_nor_loses_a_number(server, tmp_path):
    client = mlflow.MlflowClient(server.uri)
    experiment = client.create_experiment("t")
    options = {"experiment_id": experiment, "tracking_uri": server.uri, "close_timeout": 2.0}
    tracker = MlflowTracker(tmp_path / "run", **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tracker.params({"before": 1})
        server.kill()
        started = time.perf_counter()
        report(tracker)
        said = time.perf_counter() - started
        child_of_nobody = tracker.child("born-offline")
        report(child_of_nobody)
        child_of_nobody.close()
        tracker.close()
    assert said < 5, "reporting waited for the dead server"
    messages = " ".join(str(w.message) for w in caught)
    assert "tracking is not reachable" in messages
    assert f"geovae.tracking.sync('{tmp_path / 'run' / 'outbox'}')" in messages

    server.start()
    for name in ("run", "run/born-offline"):
        sync(tmp_path / name / "outbox")
    check(client, tracker.run_id)
    runs = client.search_runs([experiment])
    assert {run.info.run_name for run in runs} == {"run", "born-offline"}
    born = next(run for run in runs if run.info.run_name == "born-offline")
    assert born.data.tags["mlflow.parentRunId"] == tracker.run_id
    check(client, born.info.run_id)


def test_the_address_that_is_kept_holds_no_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracker = MlflowTracker(
            tmp_path, run_id="0" * 32, tracking_uri="http://me:secret@127.0.0.1:9/x", close_timeout=0.5
        )
        tracker.tags({"a": 1})
        tracker.close()
    kept = (tmp_path / "outbox" / "address.json").read_text()
    assert "secret" not in kept
    assert "http://127.0.0.1:9/x" in kept


def test_a_continued_run_repeats_nothing_that_the_store_has(store, tmp_path):
    uri, experiment = store
    first = MlflowTracker(tmp_path / "dead", experiment_id=experiment, name="run", tracking_uri=uri)
    report(first)
    first.close()
    with MlflowTracker(tmp_path / "next", run_id=first.run_id, tracking_uri=uri, continued=True) as second:
        report(second)  # at other times than before
        second.metrics({"train/loss": 0.125}, step=STEPS + 1)
    client = mlflow.MlflowClient(uri)
    points = client.get_metric_history(first.run_id, "train/loss")
    assert sorted(point.step for point in points) == list(range(1, STEPS + 2))
    images = [item.path for item in client.list_artifacts(first.run_id, "images") if item.path.endswith(".png")]
    assert len(images) == 2


def test_a_continued_run_repeats_nothing_that_the_dead_process_left_unsent(store, tmp_path):
    uri, experiment = store
    run = mlflow.MlflowClient(uri).create_run(experiment)
    dead = MlflowTracker(tmp_path / "run", run_id=run.info.run_id, tracking_uri="http://127.0.0.1:9", close_timeout=0)
    report(dead)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it could not be reached, and what is kept
        dead.close()
    with MlflowTracker(tmp_path / "run", run_id=run.info.run_id, tracking_uri=uri, continued=True) as second:
        report(second)
    client = mlflow.MlflowClient(uri)
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted(point.step for point in points) == list(range(1, STEPS + 1))
    images = [item.path for item in client.list_artifacts(run.info.run_id, "images") if item.path.endswith(".png")]
    assert len(images) == 2


@pytest.mark.parametrize(
    "password", ["secret", "p#secret", "p/secret", "p?secret", "p@secret", "p%23secret", "p:secret", "#/?@secret"]
)
@pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql", "http", "https"])
def test_no_password_is_shown_whatever_its_characters(password, scheme):
    assert without_password(f"{scheme}://me:{password}@host:5000/db") == f"{scheme}://host:5000/db"
    assert without_password(f"{scheme}://{password}@host/db?sslmode=require") == f"{scheme}://host/db?sslmode=require"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("mysql://h/db?user=a&password=secret&charset=utf8", "mysql://h/db?charset=utf8"),
        ("http://h/?token=secret", "http://h/"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Da%3BPWD%3Dsecret", "mssql+pyodbc:///"),
        ("postgresql://h/db?sslrootcert=/etc/ca.pem", "postgresql://h/db?sslrootcert=/etc/ca.pem"),
        ("sqlite:////home/me@here/a#b.db", "sqlite:////home/me@here/a#b.db"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("file:///a@b/mlruns", "file:///a@b/mlruns"),
        ("./mlruns", "./mlruns"),
        ("databricks", "databricks"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_what_is_no_secret_stays_in_a_tracking_uri(uri, shown):
    assert without_password(uri) == shown
