"""`sync` delivers every outbox that it can, and exit codes say what is still missing."""

import json
import sys
import warnings

import mlflow
import pytest

from geovae.tracking import UndeliveredWarning
from mlflow_projects import entry, sync


def write_outbox(folder, address, lines=('{"kind": "tags", "values": {"a": "1"}}',)):
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text("".join(line + "\n" for line in lines))
    (folder / "address.json").write_text(address)


def test_a_bad_outbox_among_good_ones_keeps_none_of_them_back(tmp_path, capsys):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("t")
    run_ids = {name: client.create_run(experiment).info.run_id for name in ("b", "d")}
    for name, run_id in run_ids.items():
        write_outbox(tmp_path / name / "outbox", json.dumps({"tracking_uri": uri, "run_id": run_id}))
    write_outbox(tmp_path / "a" / "outbox", "")
    write_outbox(tmp_path / "c" / "outbox", json.dumps({"tracking_uri": uri, "run_id": "0" * 32}))
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "refused.jsonl").write_text('{"reason": "too long", "record": {}}\n')
    with pytest.raises(SystemExit) as ended:
        sync.main(str(tmp_path))
    assert ended.value.code == 4
    out = capsys.readouterr().out
    assert "a/outbox: not delivered, kept; " in out
    assert "address.json is damaged" in out
    assert "c/outbox: not delivered, kept; " in out
    assert "e/refused.jsonl: 1 records that MLflow refused, the last: too long" in out
    for name, run_id in run_ids.items():
        assert client.get_run(run_id).data.tags["a"] == "1"
        assert not (tmp_path / name / "outbox").exists()
    assert (tmp_path / "c" / "outbox" / "records.jsonl").exists()


def test_nothing_to_deliver_is_no_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sync.main()  # not even a folder `runs`
    assert capsys.readouterr().out == "no record waits below runs: nothing to deliver\n"
    with pytest.raises(FileNotFoundError, match="no folder rusn: give the folder of a run"):
        sync.main("rusn")


def test_a_run_whose_record_is_not_complete_says_so_last(monkeypatch, capsys):
    def train():
        warnings.warn("3 records are kept", UndeliveredWarning)
        print("done")

    monkeypatch.setattr(sys, "argv", ["train"])
    monkeypatch.setattr("signal.signal", lambda *args: None)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.raises(SystemExit) as ended:
            entry.main(train)
        with pytest.raises(SystemExit) as after:
            entry.main(lambda: None)
    assert (ended.value.code, after.value.code) == (4, 0)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: the run is done, but not all of its record is in the tracking store; python -m")
