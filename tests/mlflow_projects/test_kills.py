"""Processes that are killed: no run stays RUNNING, no record is lost or doubled, whatever the moment.

The killed processes are forks of this one, which saves the imports. They and the checks share no connection to a store:
each test has its own, and looks into it only after the last fork.
"""

import itertools
import os
import platform
import random
import signal
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest

from experiments.config import fingerprint, parse_options, resolve
from geovae.tracking import MlflowTracker, end_abandoned, outbox, sync
from mlflow_projects import entry, generate, prepare, report, study, train
from tests.data.originals import write_mnist
from tuning.runs import RunStore

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
EXPERIMENT = "0"  # the default, which a store has from its beginning
TINY = {
    "data.name": "digits",
    "data.augment": "0",
    "model.width": "16",
    "model.latent_dim": "3",
    "training.epochs": "4",
    "n_samples": "60",
    "extractor": "pixels",
    "scores": "frechet",
    "samplers": "prior",
    "images_every": "2",
}
FLAGS = [f"--{name}={value}" for name, value in TINY.items()]


@pytest.fixture
def uri(database, tmp_path, monkeypatch):
    """The URI of a store of its own, in whose folder the test works."""
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "Default")
    mlflow.set_tracking_uri(None)  # first: it removes the variable
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    yield os.environ["MLFLOW_TRACKING_URI"]
    mlflow.set_tracking_uri(None)


def fork(work, kill_after=None):
    """Do `work` in a process of its own, which is killed after some seconds; return its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(BaseException), open("log", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc(file=log)
        os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_at(moment):
    """Let this process kill itself at its nth moment: before or after something that another process could see."""
    count = itertools.count(1)

    def seen(function):
        def counted(*arguments, **options):
            die()
            result = function(*arguments, **options)
            die()
            return result

        return counted

    def die():
        if next(count) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    requests = ("create_run", "log_batch", "update_run", "set_terminated", "log_artifact", "log_inputs", "set_tag")
    seen_calls = [(os, "replace"), (outbox, "_append"), (outbox, "_remove"), (outbox, "_create_and_lock")]
    for owner, name in [*seen_calls, *((mlflow.MlflowClient, name) for name in requests)]:
        setattr(owner, name, seen(getattr(owner, name)))


def runs(uri):
    return mlflow.MlflowClient(uri).search_runs([EXPERIMENT])


def points(uri, run, key):
    return [(p.step, p.value) for p in mlflow.MlflowClient(uri).get_metric_history(run.info.run_id, key)]


def left(folder=Path()):
    """Return what dead processes have left below a folder."""
    return [path for name in ("records.jsonl", "address.json", ".*.partial*") for path in folder.rglob(name)]


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


STUDY = f"""
title: two seeds
report: scores
options: {{{", ".join(f"{name}: {value}" for name, value in TINY.items())}}}
models: {{vae: {{}}}}
variants: {{few: {{samplers: [mixture], sampler.mixture.n_components: 2}}}}
sizes: {{ci: {{seeds: 2, data: {{digits: {{}}}}}}}}
"""


def resume_or_train():
    begun = list(Path("runs").glob("*/checkpoint.safetensors"))
    entry.call(train.main, [f"--resume={begun[0].parent}"] if begun else FLAGS)


WORK = {
    "train": resume_or_train,
    "study": lambda: entry.call(study.main, ["--name=two.yaml", "--size=ci", "--output=report"]),
    "prepare": lambda: entry.call(prepare.main, ["--dataset=mnist", "--source=original", "--root=data"]),
    "generate": lambda: entry.call(generate.main, ["--model=model.safetensors", "--n=30"]),
    "report": lambda: entry.call(report.main, []),
}


def finished(uri):
    """Return the numbers of the finished runs by name, without times; what was finished twice counts once."""
    found = [run for run in runs(uri) if run.info.status == "FINISHED"]
    timed = ("seconds", "per_second")
    return {
        str((run.info.run_name, sorted(item for item in run.data.metrics.items() if not item[0].endswith(timed))))
        for run in found
    }


def set_up(name, database, model_file):
    Path("two.yaml").write_text(STUDY)
    Path("model.safetensors").write_bytes(model_file.read_bytes())
    Path("mlflow.db").write_bytes(database.read_bytes())
    if name == "prepare":
        write_mnist(Path("original"), n=10_020)
    if name == "report":
        assert fork(trained) == 0, Path("log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n"), [("train", 3), ("study", 3), ("prepare", 2), ("generate", 2), ("report", 1)])
def test_kills_at_random_moments_change_nothing(name, n, uri, database, model_file, tmp_path, monkeypatch):
    set_up(name, database, model_file)
    Path("whole").mkdir()
    whole = f"sqlite:///{tmp_path / 'whole' / 'mlflow.db'}"
    with monkeypatch.context() as patch:
        patch.chdir("whole")
        patch.setenv("MLFLOW_TRACKING_URI", whole)
        set_up(name, database, model_file)
        started = time.monotonic()
        assert fork(WORK[name]) == 0, Path("log").read_text()
        duration = time.monotonic() - started
    moments = random.Random(name)
    ends = []
    while 0 not in ends and len(ends) < n:
        ends.append(fork(WORK[name], moments.uniform(0, duration)))
    if 0 not in ends and fork(WORK[name]) != 0:
        # killed when the pictures were there, but before the end of the run: a refused command touches no run
        assert name == "generate", Path("log").read_text()
        assert "exists already" in Path("log").read_text()
        assert fork(lambda: entry.call(generate.main, ["--model=model.safetensors", "--n=30", "--output=again"])) == 0
    assert {run.info.status for run in runs(uri)} <= {"FINISHED", "KILLED"}
    assert finished(uri) == finished(whole)
    assert not left(Path("runs"))
