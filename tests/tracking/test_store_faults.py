"""Whatever a store or a proxy before it answers, no record of a run is lost or doubled."""

import json
import logging
import threading
import time
import warnings

import numpy as np
import pytest

from geovae.tracking import MlflowTracker, UndeliveredWarning, sync
from geovae.tracking.outbox import Outbox
from tests.tracking.faulty import CONNECTION, FAULTS, STORE, FaultyServer

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
STEPS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        server = FaultyServer(tmp_path_factory.mktemp("faulty"), monkeypatch)
        yield server
        server.stop()


@pytest.fixture
def experiment(server, tmp_path):
    server.fault = None
    return mlflow.MlflowClient(server.uri).create_experiment(tmp_path.name)


def pieces(tracker, first, last, note="one"):
    """Return what a run records: by its kind, the end of the path of the request that writes it, and a call."""
    picture, shape = np.zeros((4, 4), np.uint8), (1, 1, 2, 2)
    points = [({"loss": 1 / step}, {"step": step, "timestamp": float(step)}) for step in range(first, last + 1)]
    dataset = {"name": f"d{first}", "digest": "0" * 8, "source": "here", "context": "train", "shape": shape}
    return {
        "metrics": ("runs/log-batch", lambda: [tracker.metrics(values, **at) for values, at in points]),
        "params": ("runs/log-batch", lambda: tracker.params({f"p{first}": first})),
        "tags": ("runs/log-batch", lambda: tracker.tags({"t": first})),
        "image": (".png", lambda: tracker.image("picture", picture, step=first)),
        "artifact": ("note.txt", lambda: tracker.text("note.txt", note)),
        "dataset": ("runs/log-inputs", lambda: tracker.dataset(**dataset)),
    } | ({"model": ("mlflow/logged-models", lambda: tracker.model("m", {}))} if first > 1 else {})


def record(tracker, first, last):
    for _, put in pieces(tracker, first, last).values():
        put()


def check(client, run_id, status="FINISHED"):
    run = client.get_run(run_id)
    assert run.info.status == status
    history = client.get_metric_history(run_id, "loss")
    assert sorted((p.step, p.value) for p in history) == [(s, 1 / s) for s in range(1, 2 * STEPS + 1)]
    assert run.data.params == {"p1": "1", f"p{STEPS + 1}": str(STEPS + 1)}
    assert run.data.tags["t"] == str(STEPS + 1)
    assert len([item for item in client.list_artifacts(run_id, "images") if item.path.endswith(".png")]) == 2
    assert len(client.search_logged_models([run.info.experiment_id])) == len(run.outputs.model_outputs) == 1
    assert {item.dataset.name for item in run.inputs.dataset_inputs} == {"d1", f"d{STEPS + 1}"}


@pytest.mark.parametrize("fault", ["401", "empty 200", "HTML 200", "database"])
def test_nothing_is_lost_when_the_store_answers_nonsense_until_the_end(server, experiment, tmp_path, fault):
    client = mlflow.MlflowClient(server.uri)
    tracker = MlflowTracker(tmp_path / "run", experiment_id=experiment, tracking_uri=server.uri, close_timeout=2.0)
    record(tracker, 1, STEPS)
    assert tracker.flush(60)
    server.fault, server.answered = fault, 0
    record(tracker, STEPS + 1, 2 * STEPS)
    assert not tracker.flush(20)
    assert server.answered
    outbox = tmp_path / "run" / "outbox"
    with pytest.warns(UndeliveredWarning, match="tracking records are kept in .*outbox"):
        tracker.close()
    assert outbox.exists()
    server.fault = None
    sync(outbox)
    check(client, tracker.run_id)
    assert not outbox.exists()
    assert not (tmp_path / "run" / "refused.jsonl").exists()


QUICK = ("empty 200",)
EVERY = [
    pytest.param(fault, marks=() if fault in QUICK else pytest.mark.slow) for fault in [*FAULTS, *CONNECTION, *STORE]
]


@pytest.mark.parametrize("fault", EVERY)
def test_one_fault_at_each_kind_of_record_loses_and_doubles_nothing(server, experiment, tmp_path, fault, monkeypatch):
    monkeypatch.setattr("geovae.tracking.outbox.LONGEST_RETRY", 0.05)
    monkeypatch.setitem(Outbox.__init__.__kwdefaults__, "interval", 0.05)
    if fault in ("hang", "half an answer", "database locked"):  # nothing ends these requests but the clock
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    if not fault.endswith("deleted"):
        server.strike(fault, "runs/create")
    tracker = MlflowTracker(tmp_path / "run", experiment_id=experiment, tracking_uri=server.uri)
    record(tracker, 1, STEPS)
    deliver(server, tracker)
    server.run_id = tracker.run_id
    for path, put in pieces(tracker, STEPS + 1, 2 * STEPS, note="changed").values():
        server.strike(fault, path)
        put()
        deliver(server, tracker)
        assert server.struck.is_set()
        server.lift()  # a deleted run takes files, too
    server.strike(fault, "runs/update")
    threading.Thread(target=lambda: (server.struck.wait(20), server.lift())).start()
    tracker.close()
    client = mlflow.MlflowClient(server.uri)
    (run,) = client.search_runs([experiment])
    check(client, run.info.run_id)
    client.download_artifacts(run.info.run_id, "note.txt", str(tmp_path))
    assert (tmp_path / "note.txt").read_text() == "changed"
    assert not (tmp_path / "run" / "outbox").exists()
    assert not (tmp_path / "run" / "refused.jsonl").exists()


def deliver(server, tracker):
    """Deliver what was recorded; the store comes back once a failure was noticed."""
    while not tracker.flush(20):
        server.lift()
        time.sleep(0.02)


@pytest.mark.parametrize("fault", ["401", "empty 200", "HTML 200", "500"])
def test_a_run_that_begins_while_the_store_answers_nonsense_is_created_later(server, experiment, tmp_path, fault):
    server.fault = fault
    options = {"experiment_id": experiment, "name": "late", "tracking_uri": server.uri, "close_timeout": 0.5}
    tracker = MlflowTracker(tmp_path / "run", **options)
    assert tracker.run_id is None
    record(tracker, 1, STEPS)
    record(tracker, STEPS + 1, 2 * STEPS)
    tracker.close()
    server.fault = None
    sync(tmp_path / "run" / "outbox")
    client = mlflow.MlflowClient(server.uri)
    (run,) = client.search_runs([experiment])
    check(client, run.info.run_id)


def test_images_are_looked_for_once_for_all_that_were_sent_together(server, experiment, tmp_path, monkeypatch):
    asked, ask = [], mlflow.MlflowClient.list_artifacts
    monkeypatch.setattr(mlflow.MlflowClient, "list_artifacts", lambda *given: asked.append(given) or ask(*given))
    with MlflowTracker(tmp_path / "run", experiment_id=experiment, tracking_uri=server.uri) as tracker:
        for step in range(5):
            tracker.image("picture", np.zeros((4, 4), np.uint8), step=step)
        assert tracker.flush(120)
        assert len(asked) == 1
    paths = [item.path for item in ask(mlflow.MlflowClient(server.uri), tracker.run_id, "images")]
    assert len([path for path in paths if path.endswith(".png")]) == 5


def test_a_run_whose_creation_got_no_answer_is_not_created_twice(server, experiment, tmp_path):
    server.strike("answer lost", "runs/create")
    with MlflowTracker(tmp_path / "run", experiment_id=experiment, tracking_uri=server.uri) as tracker:
        tracker.metrics({"a": 1.0})
    assert server.struck.is_set()
    (run,) = mlflow.MlflowClient(server.uri).search_runs([experiment])
    assert run.data.metrics == {"a": 1.0}
    assert run.info.status == "FINISHED"


def test_what_mlflow_refuses_is_set_aside_alone_and_told(server, experiment, tmp_path):
    tracker = MlflowTracker(tmp_path / "run", experiment_id=experiment, tracking_uri=server.uri)
    for key in ("before", "a,b", "after"):  # delivered in one request
        tracker.metrics({key: 1.0})
    tracker.params({"p": 1})
    tracker.params({"p": 2})
    with pytest.warns(UndeliveredWarning, match="MLflow refused a params record, which is kept in .*refused.jsonl"):
        tracker.close()
    run = mlflow.MlflowClient(server.uri).get_run(tracker.run_id)
    assert run.data.metrics == {"before": 1.0, "after": 1.0}
    assert run.info.status == "FINISHED"
    kept = [json.loads(line) for line in (tmp_path / "run" / "refused.jsonl").read_text().splitlines()]
    assert [item["record"]["kind"] for item in kept] == ["metrics", "params"]
    assert kept[1]["record"]["values"] == {"p": "2"}
    assert "already logged" in kept[1]["reason"]


def test_a_deleted_run_keeps_its_records_until_it_is_restored(server, experiment, tmp_path):
    client = mlflow.MlflowClient(server.uri)
    tracker = MlflowTracker(tmp_path / "run", experiment_id=experiment, tracking_uri=server.uri, close_timeout=0.5)
    record(tracker, 1, STEPS)
    assert tracker.flush(60)
    client.delete_run(tracker.run_id)
    record(tracker, STEPS + 1, 2 * STEPS)
    tracker.close()
    client.restore_run(tracker.run_id)
    sync(tmp_path / "run" / "outbox")
    check(client, tracker.run_id)


def test_a_run_made_by_others_is_ended_by_its_late_records(server, experiment, tmp_path):
    client = mlflow.MlflowClient(server.uri)
    run_id = client.create_run(experiment).info.run_id
    tracker = MlflowTracker(tmp_path / "run", run_id=run_id, tracking_uri=server.uri, close_timeout=0.5)
    server.fault = "401"
    tracker.metrics({"a": 1.0})
    tracker.close()
    server.fault = None
    client.set_terminated(run_id, "FAILED")  # as `mlflow run` does after the exit code of an incomplete record
    sync(tmp_path / "run" / "outbox")
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_damaged_line_is_set_aside_and_the_others_arrive(server, experiment, tmp_path):
    client = mlflow.MlflowClient(server.uri)
    run_id = client.create_run(experiment).info.run_id
    server.fault = "401"
    tracker = MlflowTracker(tmp_path / "run", run_id=run_id, tracking_uri=server.uri, close_timeout=0.1)
    tracker.metrics({"a": 1.0})
    tracker.metrics({"b": 1.0})
    tracker.close()
    server.fault = None
    log = tmp_path / "run" / "outbox" / "records.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([lines[0], b'{"kind": "met\xff\n', b'{"a": 1}\n', *lines[1:]]))
    assert sync(log.parent) == 5
    assert client.get_run(run_id).data.metrics == {"a": 1.0, "b": 1.0}
    kept = (tmp_path / "run" / "refused.jsonl").read_text()
    assert "its line in records.jsonl is damaged" in kept


def test_a_damaged_address_is_one_sentence(tmp_path):
    (tmp_path / "records.jsonl").write_text('{"kind": "tags", "values": {}}\n')
    (tmp_path / "address.json").write_text("")
    with warnings.catch_warnings(), pytest.raises(ValueError, match="address.json is damaged: write .*run_id"):
        sync(tmp_path)
