"""What is wrong with a sweep is said in one sentence before a run is made or Ray is started."""

import socket
import time
from pathlib import Path

import mlflow
import pytest
import yaml

from mlflow_projects import entry, reap
from mlflow_projects.sweep import DEFINITION, main
from tuning import nodes
from tuning.nodes import ClusterError, check_store, missing_on_node
from tuning.storage import Storage


def call(flags):
    entry.call(main, flags)


@pytest.fixture(scope="module")
def uri(database, tmp_path_factory):
    """One store for all tests here: what they make has names of its own."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    file.write_bytes(database.read_bytes())
    return f"sqlite:///{file}"


@pytest.fixture
def store(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return mlflow.MlflowClient(uri)


@pytest.fixture
def space(tmp_path):
    def write(content):
        file = tmp_path / "space.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        return f"--space={file}"

    return write


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--trials=0"], "`trials` must be a whole number of at least 1, got 0"),
        (["--seeds=0"], "`seeds` must be whole numbers that grow from at least 1, got \\[0\\]"),
        (["--seeds=3,2"], "`seeds` must be whole numbers that grow from at least 1, got \\[3, 2\\]"),
        (["--reduction=1"], "`reduction` must be a whole number of at least 2, got 1"),
        (["--time-budget=0"], "`time_budget` must be positive and finite, got 0.0"),
        (["--cpus=none"], "`cpus` must be a number, got 'none'"),
        (["--gpus=-1"], "`gpus` must be 0 or more and finite, got -1.0"),
        (["--gpus=2"], "`gpus` must be at most 1, got 2: a run uses one GPU"),
        (["--search=bayes"], "`search` must be one of optuna, random, grid, got 'bayes'"),
        (["--scheduler=hyperband"], "`scheduler` must be one of none, asha, pbt, got 'hyperband'"),
        (["--scheduler=pbt"], "`scheduler` pbt changes runs while they train"),
        (["--scheduler=pbt", "--seeds=1"], "copies weights between runs, and model.latent_dim changes their shapes"),
        (["--search=grid"], "search=grid needs lists of values, but training.learning_rate has a range"),
        (["--space=vea"], "no search space 'vea'"),
        (["--model=gan"], "no search space 'gan'"),
        (["--dataset=mnits"], "unknown data.name 'mnits'"),
        (["--training.epoch=3"], "unknown option 'training.epoch'; did you mean training.epochs?"),
        (["--training.epochs=0"], "`epochs` must be a whole number of at least 1, got 0"),
        (["--space=sampler_mixture", "--trained=nowhere"], "no model at 'nowhere'"),
        (["--resume=0123"], "no sweep '0123' in the tracking store"),
        (["--warm-start=0123"], "no sweep '0123' in the tracking store"),
        (["--address=somewhere"], "`address` must be auto, local or host:port, got 'somewhere'"),
        (["--address=127.0.0.1:1"], "no Ray cluster answers at address=127.0.0.1:1"),
        (
            ["--model.latent_dim=2", "--model.beta=1", "--training.learning_rate=0.01"],
            "the flags set every option that the space 'vae' searches",
        ),
    ],
)
def test_a_bad_flag_is_refused(store, flags, sentence):
    started = time.monotonic()
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        call(flags)
    assert time.monotonic() - started < 20
    assert store.get_experiment_by_name("geovae") is None
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"search": {}}, "the search space is empty"),
        ({"search": {"model.depth": {"choice": [1]}}}, "unknown option 'model.depth'"),
        ({"search": {"model.beta": {"uniform": [-1.0, 1.0]}}}, "`beta` must be"),
    ],
)
def test_a_bad_space_is_refused(store, space, content, sentence):
    with pytest.raises(ValueError, match=sentence):
        call([space(content)])
    assert not Path("runs").exists()


def test_a_trained_model_is_for_sampler_spaces(store, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="--trained belongs to a space of sampler options alone, and 'vae' searches"):
        call([f"--trained={file}"])


def test_a_server_that_does_not_answer_is_noticed_in_time(monkeypatch):
    assert nodes.SECONDS <= 10
    monkeypatch.setattr(nodes, "SECONDS", 1)
    with socket.socket() as silent:  # it takes connections and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ClusterError, match="no tracking server answers at http://127.0.0.1"):
            check_store(uri)
        assert time.monotonic() - started < 10
    with pytest.raises(ClusterError, match="no tracking server answers at http://127.0.0.1") as refused:
        check_store(uri.replace("http://", "http://user:secret@"))
    assert "secret" not in str(refused.value)


@pytest.fixture
def begun(store):
    """The run of a sweep that has begun, and died."""
    experiment = store.get_experiment_by_name("begun")
    experiment_id = experiment.experiment_id if experiment else store.create_experiment("begun")
    run_id = store.create_run(experiment_id, tags={"role": "sweep"}).info.run_id
    settings = {
        "search": "random",
        "trials": 4,
        "seeds": [2],
        "reduction": 3,
        "scheduler": "none",
        "grace": 5,
        "halving": 3,
        "every": 5,
        "watched": "val/loss",
        "seed": 0,
    }
    definition = {
        "space": {"fixed": {}, "search": {"model.latent_dim": {"choice": [2, 3]}}},
        "options": {"data.name": "digits"},
        "settings": settings,
        "warm_start": "",
        "trained": "",
        "storage": "/nowhere",
    }
    store.log_text(run_id, yaml.safe_dump(definition, sort_keys=False), DEFINITION)
    return run_id


def test_a_resume_with_other_settings_is_refused(begun, space):
    with pytest.raises(ValueError, match="is resumed as it was started, with trials=4, not 9"):
        call([f"--resume={begun}", "--trials=9"])
    with pytest.raises(ValueError, match="is resumed as it was started; leave out --training.epochs"):
        call([f"--resume={begun}", "--training.epochs=3"])
    with pytest.raises(ValueError, match="is not the one that this sweep searches"):
        call([f"--resume={begun}", space({"search": {"model.latent_dim": {"choice": [2, 4]}}})])


def test_a_run_that_is_no_sweep_is_refused(store, begun):
    other = store.create_run(store.get_run(begun).info.experiment_id, tags={"role": "comparison"}).info.run_id
    with pytest.raises(FileNotFoundError, match=f"run {other} is no sweep"):
        call([f"--resume={other}"])
    with pytest.raises(FileNotFoundError, match=f"sweep {begun} has no configuration with a score to start from"):
        call([f"--warm-start={begun}"])
    died = store.create_run(store.get_run(begun).info.experiment_id, tags={"role": "sweep"}).info.run_id
    with pytest.raises(FileNotFoundError, match=f"sweep {died} has no sweep.yaml: it died before it began"):
        call([f"--resume={died}"])


def test_a_node_says_what_it_lacks(tmp_path):
    assert "does not see the storage" in missing_on_node(str(tmp_path), "marker", "sqlite:///x")
    (tmp_path / "marker").write_text("here")
    assert missing_on_node(str(tmp_path), "marker", "sqlite:///x") == ""
    assert "cannot reach the tracking server" in missing_on_node(str(tmp_path), "marker", "http://127.0.0.1:1")


def test_an_object_store_keeps_what_a_node_fetches(tmp_path):
    place = Storage(f"file://{tmp_path}/bucket")
    place.check_writable()
    folder, begun = place.run_folder("run")
    assert not begun
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "checkpoint.safetensors"):
        (folder / name).write_text(name)
        place.upload("run", folder / name)
    again, begun = place.run_folder("run")
    assert begun
    assert (again / "checkpoint.safetensors").read_text() == "checkpoint.safetensors"


def test_a_storage_that_cannot_be_written_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(PermissionError, match="cannot write to the storage"):
        Storage(str(file / "below")).check_writable()
    with pytest.raises(PermissionError, match="cannot write to the storage nothing://here"):
        Storage("nothing://here").check_writable()


def test_reaping_ends_silent_runs_and_spares_parents_of_living_ones(store, monkeypatch, capsys):
    experiment = store.create_experiment("reaped")
    long_ago, now = int((time.time() - 7200) * 1000), int(time.time() * 1000)
    parent = store.create_run(experiment, start_time=long_ago).info.run_id
    alive = store.create_run(experiment, start_time=long_ago, tags={"mlflow.parentRunId": parent}).info.run_id
    store.log_metric(alive, "train/loss", 1.0, timestamp=now)
    silent = store.create_run(experiment, start_time=long_ago).info.run_id
    store.log_metric(silent, "train/loss", 1.0, timestamp=long_ago + 1)
    entry.call(reap.main, ["--experiment=reaped", "--minutes=60"])
    assert "1 of 3 running runs ended" in capsys.readouterr().out
    states = {run_id: store.get_run(run_id).info.status for run_id in (parent, alive, silent)}
    assert states == {parent: "RUNNING", alive: "RUNNING", silent: "KILLED"}
    assert "no sign of life since" in store.get_run(silent).data.tags["stop_reason"]
    with pytest.raises(FileNotFoundError, match="no experiment 'nothing'"):
        entry.call(reap.main, ["--experiment=nothing"])
