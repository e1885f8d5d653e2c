"""Studies as a user runs them: every shipped one in its smallest size, and one that is killed and started again."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.config import fingerprint
from experiments.studies.plan import names, read_study
from mlflow_projects import entry, study
from tools.names import unknown

mlflow = pytest.importorskip("mlflow")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder to work in, with a store of its own for this process and those it starts."""
    folder = tmp_path_factory.mktemp("studies")
    before = os.getcwd(), os.environ.get("MLFLOW_TRACKING_URI")
    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    yield mlflow.MlflowClient()
    os.chdir(before[0])
    mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if before[1] is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before[1]


def runs(client, query):
    return client.search_runs([client.get_experiment_by_name("geovae").experiment_id], query)


@pytest.mark.parametrize("name", names())
def test_every_study_runs_in_its_smallest_size_and_ends_in_a_report(store, name, capsys):
    output = Path("reports") / name
    entry.call(study.main, ["--name", name, "--size", "ci", "--output", str(output)])
    planned = read_study(name, "ci")
    parent = runs(store, f"tags.role = 'study' and tags.study = '{name}'")[0]
    assert parent.info.status == "FINISHED"
    children = runs(store, f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    # runs of other studies in this experiment that ask for the same are taken, and stay below theirs
    digests = {fingerprint(config) for cell in planned.cells for config in cell.configs.values()}
    found = [run.data.tags["config"] for run in runs(store, "tags.role = 'cell'")]
    assert [found.count(digest) for digest in digests] == [1] * len(digests)
    assert {child.data.tags["config"] for child in children} <= digests
    assert {child.info.status for child in children} == {"FINISHED"}
    for child in children:
        assert not unknown("metric", child.data.metrics)
        assert not unknown("tag", [tag for tag in child.data.tags if not tag.startswith("mlflow.")])
    page = (output / "report.html").read_text()
    assert page.count("<h1>") == 1
    assert planned.title.split(":")[0] in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "the page must need nothing beside it"
    assert "not FID" in page
    files = {item.path for item in store.list_artifacts(parent.info.run_id)}
    assert {"report.html", "report.md", "scores.csv"} <= files
    assert not unknown("artifact", [path for path in files if path != "figures"])
    assert ("predictions-synthetic.csv" in files) == (name == "oasis")
    assert f"# {planned.title}" in parent.data.tags["mlflow.note.content"]
    assert "about 0 s left" in capsys.readouterr().out


def test_a_finished_study_repeats_nothing_and_its_runs_move_below_the_newest_parent(store, capsys):
    entry.call(study.main, ["--name", "ablation", "--size", "ci", "--output", "again"])
    assert "6 runs, 6 of them finished before" in capsys.readouterr().out
    assert Path("again/scores.csv").read_text() == Path("reports/ablation/scores.csv").read_text()
    parents = runs(store, "tags.role = 'study' and tags.study = 'ablation'")
    below = [len(runs(store, f"tags.mlflow.parentRunId = '{parent.info.run_id}'")) for parent in parents]
    assert below == [6, 0]


STUDY = """
title: two seeds
report: scores
options: {data.name: digits, data.augment: 0, model.width: 16, model.latent_dim: 3, n_samples: 60, extractor: pixels,
  scores: [frechet]}
models: {vae: {samplers: [prior, mixture]}}
variants: {few: {samplers: [mixture], sampler.mixture.n_components: 2}}
sizes: {ci: {seeds: 2, data: {digits: {training.epochs: EPOCHS}}}}
"""


def start(file, output):
    command = [sys.executable, "-m", "mlflow_projects.study", "--name", str(file), "--size", "ci", "--output", output]
    with Path(f"{output}.log").open("w") as log:
        return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log, text=True)


def test_a_study_killed_in_the_middle_of_a_training_goes_on_and_ends_in_the_same_table(store):
    Path("killed.yaml").write_text(STUDY.replace("EPOCHS", "30"))
    process = start("killed.yaml", "first")
    while not any(len(list(path.parent.glob("*"))) for path in Path("runs/studies/killed").glob("*/features")):
        assert process.poll() is None, Path("first.log").read_text()
        time.sleep(0.05)
    begun = set(Path("runs/studies/killed").iterdir())
    while len(checkpoints := [p / "checkpoint.safetensors" for p in folders("killed") if p not in begun]) == 0 or not (
        checkpoints[0].exists()
    ):
        assert process.poll() is None, Path("first.log").read_text()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("first/report.html").exists()
    assert runs(store, "tags.study = 'killed' and attributes.status = 'RUNNING'")

    again = start("killed.yaml", "second")
    assert again.wait(300) == 0, Path("second.log").read_text()
    said = Path("second.log").read_text()
    assert re.search(r"4 runs, [12] of them finished before", said), said
    assert not runs(store, "tags.study = 'killed' and attributes.status = 'RUNNING'")
    assert len(runs(store, "tags.study = 'killed' and attributes.status = 'FINISHED' and tags.role = 'cell'")) == 4

    Path("whole.yaml").write_text(STUDY.replace("EPOCHS", "30"))
    entry.call(study.main, ["--name", "whole.yaml", "--size", "ci", "--output", "whole"])
    assert table("second") == table("whole")


def test_a_run_that_fails_fails_alone(store, capsys):
    content = STUDY.replace("EPOCHS", "2").replace("models: {", "models: {bad: {training.learning_rate: 1.0e+12}, ")
    Path("partly.yaml").write_text(content)
    with pytest.raises(SystemExit, match="1"):
        entry.call(study.main, ["--name", "partly.yaml", "--size", "ci", "--output", "partly"])
    said = capsys.readouterr().out
    assert said.count("-bad-0 failed: training diverged in epoch 1") == 1
    assert "about 0 s left" in said
    report = Path("partly/report.md").read_text()
    assert "**2 runs failed** and are missing below" in report
    assert "* digits-bad-1: training diverged" in report
    assert {row[1] for row in table("partly")[1:]} == {"vae"}
    cells = runs(store, "tags.study = 'partly' and tags.role = 'cell'")
    assert sorted(run.info.status for run in cells) == ["FAILED", "FAILED", *["FINISHED"] * 4]
    assert all("diverged" in run.data.tags["failure"] for run in cells if run.info.status == "FAILED")


def folders(name):
    return [path for path in Path(f"runs/studies/{name}").iterdir() if path.is_dir()]


def table(output):
    with (Path(output) / "scores.csv").open() as file:
        return [row for row in csv.reader(file) if row[6] != "seconds"]


def test_the_same_study_does_not_run_twice_at_once(store):
    folder = Path("runs/studies/twice")
    folder.mkdir(parents=True)
    with (
        study.only_one(folder),
        pytest.raises(PermissionError, match=f"study 'twice' already runs here, as process {os.getpid()}"),
        study.only_one(folder),
    ):
        pass
