"""A tracking store that cannot be opened: one sentence, from what MLflow and SQLAlchemy really raise."""

import os
import sqlite3
import sys
from pathlib import Path

import mlflow
import pytest

from mlflow_projects import entry
from mlflow_projects.stores import explain, make_tables
from tests.mlflow_projects.killing import start


@pytest.fixture(autouse=True)
def _same_store_afterwards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["train"])
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


def refusal(uri: str, capsys: pytest.CaptureFixture[str], name: str = "geovae") -> str:
    """Return what a user reads when an entry point opens the store at `uri`."""

    def open_store() -> None:
        mlflow.set_tracking_uri(uri)
        mlflow.MlflowClient().search_experiments()
        mlflow.set_experiment(name)

    with pytest.raises(SystemExit) as end:
        entry.main(open_store)
    assert end.value.code == 2
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(shown) == 1
    assert len(shown[0]) <= 320
    return shown[0]


def test_of_processes_that_open_a_new_store_at_once_one_makes_its_tables(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def opened() -> None:
        make_tables(f"sqlite:///{tmp_path / 'm.db'}")

    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in [start(opened) for _ in range(3)]] == [0] * 3


def test_a_file_store_a_wrong_uri_and_a_file_that_is_no_database(tmp_path: Path, capsys):
    assert "sqlite:///mlflow.db" in refusal(str(tmp_path / "mlruns"), capsys)
    assert "sqlite:///FILE" in refusal("sqlite:/m.db", capsys)
    (tmp_path / "text.db").write_text("no database" * 100)
    assert "not a database" in refusal(f"sqlite:///{tmp_path}/text.db", capsys)


def test_a_deleted_experiment_and_an_old_schema(tmp_path: Path, capsys):
    uri = f"sqlite:///{tmp_path}/m.db"
    client = mlflow.MlflowClient(uri)
    client.delete_experiment(client.create_experiment("mine"))
    assert "mlflow experiments restore" in refusal(uri, capsys, "mine")
    old = tmp_path / "old.db"  # a copy: MLflow checks the schema once per process and store
    old.write_bytes((tmp_path / "m.db").read_bytes())
    with sqlite3.connect(old) as database:
        database.execute("update alembic_version set version_num = '451aebb31d03'")
    assert "mlflow db upgrade" in refusal(f"sqlite:///{old}", capsys)


def test_a_server_that_does_not_answer_and_its_password_is_not_shown(capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    shown = refusal("http://me:secret@127.0.0.1:9", capsys)
    assert "127.0.0.1:9 does not answer" in shown
    assert "secret" not in shown


@pytest.mark.parametrize("secret", ["plain", "a#b", "a/b", "a%23b", "a@b"])
def test_a_driver_that_repeats_the_password(secret: str):
    from sqlalchemy.exc import OperationalError

    uri = f"postgresql://me:{secret}@host/x"
    error = OperationalError("select 1", {}, Exception(f"cannot connect to {uri}: {secret}"))
    assert secret not in explain(error, uri)


def test_other_errors_are_not_explained():
    assert explain(RuntimeError("a bug"), "sqlite:///m.db") == ""
