"""Processes that are killed: no run stays RUNNING, no record is lost or doubled, whatever the moment."""

import itertools
import os
import platform
import random
import signal
from collections import Counter
from pathlib import Path

import mlflow
import pytest

from experiments.config import fingerprint, parse_options, resolve
from geovae.tracking import MlflowTracker, claim_run, end_abandoned, sync
from mlflow_projects import entry, train
from tests.mlflow_projects.killing import EXPERIMENT, FLAGS, die_at, fork, left, points, runs
from tuning.runs import RunStore

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def record(told):
    """Record a run and one below it; tell each metric once `put` has returned."""
    with MlflowTracker(Path("runs/a"), experiment_id=EXPERIMENT, name="a") as parent, parent.child("b") as child:
        for step in range(1, 4):
            child.metrics({"loss": 1 / step}, step=step)
            os.write(told.fileno(), f"{step}\n".encode())
        child.flush(20)
        child.text("note.txt", "x")
        parent.tags({"t": 1})


MOMENTS = [(moment, random.Random(moment).randint(1, 12)) for moment in range(1, 44, 3)]
QUICK = random.Random(0).sample(MOMENTS, 4)


@pytest.mark.parametrize(
    "moments", [pytest.param(m, marks=[] if m in QUICK else pytest.mark.slow) for m in MOMENTS], ids=str
)
def test_a_kill_at_any_moment_leaves_no_run_behind_even_if_the_cleaning_is_killed(uri, moments):
    def killed():
        die_at(moments[0])
        with open("told", "w") as told:
            record(told)

    def cleaning():
        die_at(moments[1])
        end_abandoned(Path("runs"), uri)

    assert fork(killed) in (0, -signal.SIGKILL), Path("log").read_text()
    assert fork(cleaning) in (0, -signal.SIGKILL), Path("log").read_text()
    end_abandoned(Path("runs"), uri)
    found = {run.info.run_name: run for run in runs(uri)}
    assert len(found) == len(runs(uri)), "a run is there twice"
    assert {run.info.status for run in found.values()} <= {"KILLED", "FINISHED"}
    told = Path("told").read_text().split() if Path("told").exists() else []
    if told:
        stored = sorted(points(uri, found["b"], "loss"))
        assert len(stored) >= len(told)
        assert stored == [(step, 1 / step) for step in range(1, len(stored) + 1)]
        assert found["b"].data.tags["mlflow.parentRunId"] == found["a"].info.run_id
    assert not left(Path("runs"))


def test_a_run_of_mlflow_run_whose_process_died_before_it_was_opened_ends(uri):
    def killed():
        run_id = mlflow.MlflowClient(uri).create_run(EXPERIMENT).info.run_id
        claim_run(entry.RUNS, run_id, uri)
        end_abandoned(entry.RUNS, uri)  # it lives
        assert [run.info.status for run in runs(uri)] == ["RUNNING"]
        os.kill(os.getpid(), signal.SIGKILL)

    assert fork(killed) == -signal.SIGKILL, Path("log").read_text()
    end_abandoned(entry.RUNS, uri)
    assert [run.info.status for run in runs(uri)] == ["KILLED"]
    assert not left()


@pytest.mark.parametrize("orphan", [False, True])
def test_a_process_that_refuses_its_input_leaves_no_trace_unless_nobody_is_there_to_end_the_run(
    uri, monkeypatch, orphan
):
    at_exit = []
    monkeypatch.setattr("atexit.register", at_exit.append)
    claim_run(entry.RUNS, "a" * 32, uri)
    if orphan:
        monkeypatch.setattr("os.getppid", lambda: 1)
    at_exit.pop()()
    assert Path("runs").exists() == orphan


def test_a_living_run_is_left_alone_and_so_is_that_of_another_store(uri):
    with MlflowTracker(Path("runs/alive"), experiment_id=EXPERIMENT, name="alive") as tracker:
        tracker.metrics({"a": 1.0})
        end_abandoned(Path("runs"), uri)
        assert mlflow.MlflowClient(uri).get_run(tracker.run_id).info.status == "RUNNING"
        end_abandoned(Path("runs"), "sqlite:///other.db")
    assert not Path("other.db").exists()


def test_sync_ends_a_dead_run_as_killed_when_its_process_died_even_on_another_machine(uri):
    def killed():
        tracker = MlflowTracker(Path("runs/a"), experiment_id=EXPERIMENT, name="a")
        tracker.metrics({"a": 1.0})
        os.kill(os.getpid(), signal.SIGKILL)

    assert fork(killed) == -signal.SIGKILL
    written = Path("runs/a/outbox/records.jsonl").stat().st_mtime
    address = Path("runs/a/outbox/address.json")
    address.write_text(address.read_text().replace(platform.node(), "another"))
    end_abandoned(Path("runs"), uri)  # its lock may mean nothing here
    assert address.exists()
    assert sync(Path("runs/a/outbox")) >= 1
    (run,) = runs(uri)
    assert (run.info.status, run.data.tags["stop_reason"]) == ("KILLED", "its process died")
    assert run.info.end_time == int(written * 1000)
    assert run.data.metrics == {"a": 1.0}


def test_the_runs_below_a_dead_driver_end_with_it_and_a_resume_goes_on_in_its_run(uri, monkeypatch):
    def driver():
        tracker = entry.open_run("sweep")
        below = RunStore(uri, EXPERIMENT, tracker.run_id)
        about = {"configuration": "c0000", "options": "{}", "sweep.seed": 0}
        configuration = below.start_run("c0", None, about | {"role": "configuration"})
        for _ in range(2):  # as after a request without an answer
            below.start_run("c0-s0", configuration, about | {"role": "seed", "stop_reason": "interrupted"})
        Path("id").write_text(tracker.run_id)
        os.kill(os.getpid(), signal.SIGKILL)

    def resume():
        with entry.continue_run(Path("id").read_text(), {"sweep": Path("id").read_text()}) as tracker:
            tracker.metrics({"a": 1.0})
            assert [run.info.status for run in runs(uri) if run.info.run_name == "sweep"] == ["RUNNING"]
            if not Path("died").exists():
                Path("died").touch()
                os.kill(os.getpid(), signal.SIGKILL)

    assert fork(driver) == -signal.SIGKILL
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", EXPERIMENT)
    assert fork(lambda: (as_mlflow_run(uri), resume())) == -signal.SIGKILL, Path("log").read_text()
    assert fork(lambda: (as_mlflow_run(uri), resume())) == 0, Path("log").read_text()
    below = RunStore(uri, EXPERIMENT, Path("id").read_text())
    below.end_orphans(below.read_configurations())
    found = {run.info.run_name: run for run in runs(uri) if run.data.tags.get("role") != "resume"}
    assert len(found) == len(runs(uri)) - 2, "the twin of a run is there"
    assert {name: run.info.status for name, run in found.items()} == {
        "sweep": "FINISHED",
        "c0": "KILLED",
        "c0-s0": "KILLED",
    }
    assert found["sweep"].info.run_id == Path("id").read_text()
    below.reopen_run(found["c0-s0"].info.run_id)
    assert not [run for run in runs(uri) if "stop_reason" in run.data.tags and run.data.tags.get("role") != "resume"]
    empty = [run for run in runs(uri) if run.data.tags.get("role") == "resume"]
    assert Counter(run.info.status for run in empty) == {"KILLED": 1, "FINISHED": 1}
    assert {run.data.tags["sweep"] for run in empty} == {found["sweep"].info.run_id}
    assert not left(Path("runs"))


def as_mlflow_run(uri):
    """Make the run that `mlflow run` makes for a process."""
    os.environ["MLFLOW_RUN_ID"] = mlflow.MlflowClient(uri).create_run(EXPERIMENT).info.run_id


def trained():
    entry.call(train.main, FLAGS)


def die_after_epochs(n):
    """Let this process kill itself when the checkpoint of an epoch is on disk."""
    replace, seen = os.replace, itertools.count(1)

    def counted(source, target):
        replace(source, target)
        if Path(target).name == "checkpoint.safetensors" and next(seen) == n:
            Path(target).with_name(".checkpoint.0.partial.safetensors").touch()  # as of a kill in the middle of a write
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = counted


def test_a_resumed_training_goes_on_in_the_same_run(uri):
    assert fork(lambda: (die_after_epochs(2), trained())) == -signal.SIGKILL, Path("log").read_text()
    (folder,) = Path("runs").iterdir()
    resume = [f"--resume={folder}"]
    assert fork(lambda: (as_mlflow_run(uri), entry.call(train.main, resume))) == 0, Path("log").read_text()
    assert fork(lambda: entry.call(train.main, [*resume, "--training.epochs=5"])) == 0, Path("log").read_text()
    made = [run for run in runs(uri) if run.data.tags.get("role") != "resume"]
    resumed, longer = sorted(made, key=lambda run: run.info.start_time)
    assert (resumed.info.status, longer.info.status) == ("FINISHED", "FINISHED")
    assert [step for step, _ in sorted(points(uri, resumed, "val/loss"))] == [1, 2, 3, 4]
    # a run has one configuration: other options make another run
    assert [step for step, _ in sorted(points(uri, longer, "val/loss"))] == [1, 2, 3, 4, 5]
    assert resumed.data.tags["config"] == fingerprint(resolve(parse_options(FLAGS)))
    (empty,) = (run for run in runs(uri) if run.data.tags.get("role") == "resume")
    assert (empty.info.status, empty.data.tags["resumed"]) == ("FINISHED", resumed.info.run_id)
    assert not left(Path("runs"))


def test_a_training_that_is_alive_is_not_resumed(uri):
    folder = Path("runs/alive")
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").touch()
    (folder / "config.yaml").write_text("training: {epochs: 4}")
    with MlflowTracker(folder, experiment_id=EXPERIMENT), pytest.raises(PermissionError, match="its process is alive"):
        entry.call(train.main, [f"--resume={folder}"])
