"""What the engine does without Ray: it ends in time when the store is gone."""

import json
import warnings
from types import SimpleNamespace

import pytest

from tuning.engine import Engine, finish
from tuning.store import Store
from tuning.trial import Shared


def test_a_store_that_is_gone_ends_nothing_and_its_records_are_kept(tmp_path, monkeypatch, unused_port):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{unused_port}"
    store = Store(uri, "1", "2" * 32)
    for folder in ("a", "b"):
        (tmp_path / folder / "outbox").mkdir(parents=True)
        record = {"kind": "metrics", "values": [["train/loss", 1.0, 1, 1]]}
        (tmp_path / folder / "outbox" / "records.jsonl").write_text(json.dumps(record) + "\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store.later(store.end, "3" * 32, "FINISHED", {})
        assert not finish(store, Shared(uri, "1", str(tmp_path)), ["a", "b", "never begun"], patience=1.0)
    said = [str(warning.message) for warning in caught]
    assert any(
        "did not answer for 1 s" in text and f"python -m mlflow_projects.sync {tmp_path}" in text for text in said
    )
    assert len(list(tmp_path.rglob("records.jsonl"))) == 2


def test_all_that_arrived_needs_no_word(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", "0", "2" * 32)
    assert finish(store, Shared(store.uri, "0", str(tmp_path)), ["a"], patience=1.0)


def test_a_death_that_ray_tells_twice_counts_once(tmp_path):
    engine = Engine(None, None, Shared("", "0", str(tmp_path)), concurrency=1, max_failures=2)
    engine.live["trial"] = SimpleNamespace(name="job"), "run"
    engine._places["trial"] = "None None None"  # where it reports from: nothing new
    for deaths in (1, 2):
        engine.died("trial")
        engine.died("trial")
        assert engine.restarts["job"] == deaths
        engine.reported("trial", {"epoch": 1})


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
