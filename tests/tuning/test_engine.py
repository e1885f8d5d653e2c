"""What the engine does without Ray's processes: deaths are counted and retried, and a dead store ends nothing."""

import json
import signal
import warnings
from concurrent.futures import Future
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from ray.tune.search import Searcher

from tuning.engine import Engine, Interrupted
from tuning.execute import execute
from tuning.nodes import Resources
from tuning.plan import Failure, Plan, Run, Task
from tuning.runs import RunStore
from tuning.search import Listed
from tuning.settings import Settings
from tuning.space import parse_space
from tuning.sweep import _SweepQueue
from tuning.worker import WorkerContext


def test_a_store_that_is_gone_ends_nothing_and_its_records_are_kept(tmp_path, monkeypatch, unused_port):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{unused_port}"
    runs = RunStore(uri, "1", "2" * 32)
    for folder in ("a", "b"):
        (tmp_path / folder / "outbox").mkdir(parents=True)
        record = {"kind": "metrics", "values": [["train/loss", 1.0, 1, 1]]}
        (tmp_path / folder / "outbox" / "records.jsonl").write_text(json.dumps(record) + "\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runs.submit(runs.end_run, "3" * 32, "FINISHED")
        engine = Engine(runs, WorkerContext(uri, "1", str(tmp_path)), Resources())
        assert not engine.flush(["a", "b", "never begun"], patience=1.0)
    texts = [str(warning.message) for warning in caught]
    assert any(
        "did not answer for 1 s" in text and f"python -m mlflow_projects.sync {tmp_path}" in text for text in texts
    )
    assert len(list(tmp_path.rglob("records.jsonl"))) == 2


def test_a_flush_of_nothing_has_arrived(tmp_path):
    runs = RunStore(f"sqlite:///{tmp_path / 'mlflow.db'}", "0", "2" * 32)
    assert Engine(runs, WorkerContext(runs.uri, "0", str(tmp_path)), Resources()).flush(["a"], patience=1.0)


def test_parameters_of_a_configuration_arrive_though_the_store_fails_after_its_run_is_created(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("sweeps")
    parent = client.create_run(experiment).info.run_id
    runs = RunStore(uri, experiment, parent)
    space = parse_space({"search": {"model.latent_dim": {"choice": [2, 4]}}}, "here")
    search = Listed([{"model.latent_dim": 4}])
    given = {"data.name": "digits", "model.name": "vae"}
    queue = _SweepQueue(search, Settings(seeds=(1,)), space, given, runs, SimpleNamespace(run_id=parent), [])
    log_batch, calls = runs.client.log_batch, []

    def fail_once(*arguments, **options):
        calls.append(options)
        if len(calls) == 1:
            raise MlflowException("the server restarts", error_code=TEMPORARILY_UNAVAILABLE)
        return log_batch(*arguments, **options)

    monkeypatch.setattr(runs.client, "log_batch", fail_once)
    with pytest.warns(UserWarning, match="does not answer"):
        run_id = runs.submit(queue.start_run, queue.next()).result(timeout=60)
        assert runs.flush(60.0)
    assert len(calls) == 2
    (configuration,) = runs.read_configurations()
    assert client.get_run(configuration.run_id).data.params == {"cfg.model.latent_dim": "4"}
    assert list(configuration.runs) == [0]
    assert configuration.runs[0].run_id == run_id


class Queue(Plan):
    """A plan whose trials need no store."""

    def start_run(self, trial):
        return f"run of {trial.name}"

    def task(self, trial):
        return {}

    def mutable_options(self, trial):
        return {}

    def on_trial_start(self, trial, run_id):
        self.run_of(trial).run_id = run_id


class Ended:
    """MLflow runs in memory: what was logged and how each run ended."""

    def __init__(self):
        self.states, self.tags = {}, {}

    def submit(self, function, *arguments, **options):
        future = Future()
        future.set_result(function(*arguments, **options))
        return future

    def end_run(self, run_id, state, tags):
        self.states[run_id] = state

    def log(self, run_id, tags):
        self.tags[run_id] = tags


@pytest.fixture
def engine(monkeypatch, tmp_path):
    """An engine in the middle of a run of two trials, as Tune drives it."""
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(get_job_id=lambda: "01"))
    made = Engine(Ended(), WorkerContext("", "0", str(tmp_path)), Resources(concurrency=2, max_failures=2))
    made.queue = Queue(Listed([{"a": 1}, {"a": 2}]), seeds=[1])
    return made


def ray_trial(trial_id, recovers=True, **result):
    return SimpleNamespace(
        trial_id=trial_id,
        last_result=result,
        should_recover=lambda: recovers,
        get_error=lambda: None,
        get_pickled_error=lambda: "killed",
    )


def test_a_queue_is_worked_off_to_its_end(engine):
    assert engine.suggest("r1")["task"]["name"] == "c0000-s0"
    assert engine.suggest("r2")["task"]["run_id"] == "run of c0001-s0"
    assert engine.suggest("r3") is None, "two at once"
    engine.on_trial_complete(0, [], ray_trial("r1", state="FAILED", reason="diverged"))
    engine.on_trial_complete(0, [], ray_trial("r2", epoch=4))
    assert engine.suggest("r3") == Searcher.FINISHED
    assert engine.runs.states == {"run of c0000-s0": "FAILED", "run of c0001-s0": "STOPPED"}
    runs = [c.runs[0] for c in engine.queue.configurations]
    assert [(run.state, run.reason) for run in runs] == [("FAILED", "diverged"), ("STOPPED", "scheduler, at epoch 4")]


def test_a_death_that_ray_reports_twice_counts_once(engine):
    engine.suggest("r1")
    for deaths in (1, 2):
        engine.on_trial_recover(0, [], ray_trial("r1"))
        engine.on_trial_recover(0, [], ray_trial("r1"))
        engine.on_trial_result(0, [], ray_trial("r1"), {"epoch": deaths, "pid": deaths})
        assert engine.runs.tags["run of c0000-s0"]["restarts"] == deaths


def test_a_trial_that_ray_gives_up_is_requeued_until_it_has_died_too_often(engine):
    for number in range(2):
        assert engine.suggest(f"r{number}")["task"]["name"] == "c0000-s0"
        engine.on_trial_error(0, [], ray_trial(f"r{number}"))
        assert engine.live == {}
    engine.suggest("last")
    engine.on_trial_error(0, [], ray_trial("last"))
    assert engine.queue.configurations[0].runs[0] == Run(
        "run of c0000-s0", "FAILED", reason="the process or its node died on every attempt: killed"
    )


@pytest.mark.parametrize(
    ("handler", "ends"),
    [(signal.SIG_IGN, nullcontext()), (lambda *signal: None, pytest.raises(Interrupted, match="SIGINT"))],
    ids=["ignored", "taken"],
)
def test_a_signal_that_nobody_raises_neither_ends_trials_nor_passes_for_their_end(engine, monkeypatch, handler, ends):
    def fit():
        engine.suggest("r1")
        signal.raise_signal(signal.SIGINT)
        engine.on_step_end(0, [])
        engine.on_trial_complete(0, [], ray_trial("r1", epoch=4))

    monkeypatch.setattr(engine, "_tuner", lambda scheduler: SimpleNamespace(fit=fit))
    before = signal.signal(signal.SIGINT, handler)
    try:
        with ends:
            engine.run(engine.queue)
    finally:
        signal.signal(signal.SIGINT, before)
    assert engine.runs.states == {"run of c0000-s0": "STOPPED" if handler == signal.SIG_IGN else "KILLED"}


def test_tasks_that_never_began_have_a_reason(monkeypatch):
    runs = SimpleNamespace(run_ids=dict)
    idle = SimpleNamespace(runs=runs, run=lambda queue, on_event: None, flush=lambda folders: True)
    monkeypatch.setattr("tuning.execute.engine_for", lambda *arguments, **options: idle)
    outcomes = execute({"a": Task({})}, None, storage="", resources=Resources())
    assert outcomes == {"a": Failure("KILLED", "the time was over before it began")}


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
