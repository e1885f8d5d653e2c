"""The whole thread as a user runs it: `mlflow run` on a copy of the project, a store, the UI's data, the registry."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from geovae import checkpoint
from mlflow_projects import train
from tests import pasted
from tests.mlflow_projects.project import Project, list_files
from tools.names import NAMES, find, unknown

mlflow = pytest.importorskip("mlflow")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TINY = """
dataset: digits
runs:
  ae: {model.name: ae}
  vae: {}
"""
SMALL = [
    "data.augment=0",
    "model.width=32",
    "model.latent_dim=4",
    "training.epochs=2",
    "n_samples=40",
    "images_every=1",
    "keep_checkpoint=true",
    "extractor=pixels",
    "scores=frechet,prd",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("clone"))
    (made.folder / "tiny.yaml").write_text(TINY)
    return made


@pytest.fixture(scope="module")
def compared(project):
    """The project after its main job has run, with the finished process."""
    done = project.run("main", "comparison=tiny.yaml", *SMALL)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def parent(project, compared):
    return next(run for run in project.runs() if run.data.tags.get("role") == "comparison")


@pytest.fixture(scope="module")
def children(project, parent):
    found = project.runs(f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    return {run.info.run_name: run for run in found}


def test_the_run_that_mlflow_made_is_the_parent_of_both_models(parent, children):
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.project.entryPoint"] == "main"
    assert set(children) == {"ae", "vae"}
    assert {run.info.status for run in children.values()} == {"FINISHED"}


def test_the_parent_shows_the_model_and_the_data_of_its_best_run(parent, children):
    best = children[parent.data.tags["winner"]]
    assert parent.outputs.to_dictionary() == best.outputs.to_dictionary()
    assert {item.dataset.digest for item in parent.inputs.dataset_inputs} == {
        item.dataset.digest for item in best.inputs.dataset_inputs
    }


def test_the_end_says_who_won_by_how_much_and_how_to_look(compared, parent):
    assert f"{parent.data.tags['winner']} with the" in compared.stdout
    assert " wins: fd_pixels " in compared.stdout
    assert "make ui" in compared.stdout
    assert "Registered as geovae version 1.\nversion 1 (fd_pixels " in compared.stdout
    assert ") is the champion now: models:/geovae@champion" in compared.stdout
    noise = ("Add type hints", "input example", "Downloading artifacts", "Created version", "AnyType")
    assert not [word for word in noise if word in compared.stdout + compared.stderr]
    assert re.search(
        r"\| # \| run \| sampler \| fd_pixels.* val", parent.data.tags["mlflow.note.content"].replace("&ensp;", "")
    )


def test_a_child_holds_what_the_ui_shows(project, children):
    run = children["vae"]
    params, metrics = run.data.params, run.data.metrics
    assert params["cfg.model.latent_dim"] == "4"
    assert params["cfg.training.learning_rate"] == "0.001"
    assert {f"score/{name}/fd_pixels" for name in ("prior", "mixture", "riemannian")} <= metrics.keys()
    assert {"train/loss", "val/loss", "train/kl", "best/val_loss", "sampler/riemannian/acceptance"} <= metrics.keys()
    assert [p.step for p in project.client.get_metric_history(run.info.run_id, "val/loss")] == [1, 2]
    files = {item.path for item in list_files(project.client, run.info.run_id)}
    assert {
        "config.yaml",
        "environment.json",
        "figures/latent_map.png",
        "model/model.safetensors",
        "checkpoints/checkpoint.safetensors",
    } <= files
    keys = {re.split("[%+]", path.split("/")[1])[0] for path in files if path.startswith("images/")}
    assert {"reconstructions", "samples~prior", "samples~mixture", "samples~riemannian"} <= keys
    contexts = {tag.value for item in run.inputs.dataset_inputs for tag in item.tags}
    assert contexts == {"train", "val", "test"}
    assert run.data.tags["model"] == "vae"


def test_what_a_run_records_is_what_the_page_of_names_lists(project, parent, children):
    """Both ways: every recorded name has a row, and every row that is not another entry point's is recorded."""
    recorded = {kind: set() for kind in NAMES}
    for run in (parent, *children.values()):
        recorded["metric"] |= run.data.metrics.keys()
        recorded["tag"] |= {key for key in run.data.tags if not key.startswith("mlflow.")}
        if run is not parent:  # its other parameters are those that `mlflow run` wrote
            recorded["parameter"] |= run.data.params.keys()
        files = [item.path for item in list_files(project.client, run.info.run_id)]
        recorded["artifact"] |= {path for path in files if not path.startswith("images/")}
        recorded["image"] |= {re.split("[%+]", p)[0][7:].replace("~", "/") for p in files if p.startswith("images/")}
    assert {kind: unknown(kind, names) for kind, names in recorded.items()} == {kind: [] for kind in NAMES}
    listed = {
        kind: {key for key, meaning in rows.items() if not meaning.startswith("of `")} for kind, rows in NAMES.items()
    }
    met = {kind: {find(kind, name) for name in names} for kind, names in recorded.items()}
    listed["tag"] -= {"geovae.token"}  # of runs that `mlflow run` did not create
    listed["tag"] -= {
        "not_finite.<metric>",
        "warning.<sampler>",
        "warning.scores",
        "undertrained",
    }  # only where something is wrong
    assert {kind: listed[kind] - met[kind] for kind in NAMES} == {kind: set() for kind in NAMES}


def test_runs_are_found_by_score_and_model(project, children):
    best = children["vae"].data.metrics["score/fd_pixels"]
    assert best == children["vae"].data.metrics[f"score/{children['vae'].data.tags['best_sampler']}/fd_pixels"]
    found = project.runs(f"metrics.\"score/fd_pixels\" < {best * 1.001} and tags.model = 'vae'")
    assert children["vae"].info.run_id in {run.info.run_id for run in found}
    assert not project.runs(f"metrics.\"score/fd_pixels\" < {best * 0.999} and tags.model = 'vae'")


def test_an_autoencoder_has_no_riemannian_samples(children):
    assert not [key for key in children["ae"].data.metrics if "riemannian" in key]


def test_the_champion_draws_in_a_fresh_process_far_from_the_project(project, compared, tmp_path):
    program = (
        "import mlflow, numpy, sys\n"
        "model = mlflow.pyfunc.load_model('models:/geovae@champion')\n"
        "draw = lambda **params: model.predict(None, params=params)\n"
        "images = draw(n=5, sampler='prior', seed=1)\n"
        "assert images.shape == (5, 32, 32, 1) and images.dtype == numpy.uint8, images.shape\n"
        "assert numpy.array_equal(images, draw(n=5, sampler='prior', seed=1))\n"
        "assert not numpy.array_equal(images, draw(n=5, sampler='prior', seed=2))\n"
        "assert draw().shape == (16, 32, 32, 1)\n"
        "for bad in ({'n': 0}, {'n': 10**9}, {'sampler': 'gibbs'}):\n"
        "    try: draw(**bad)\n"
        "    except Exception as error: print(error)\n"
        "    else: raise SystemExit(f'{bad} was taken')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path,
        env=project.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "`n` must lie between 1 and 10000, got 0" in done.stdout
    assert "`sampler` must be one of prior, mixture, " in done.stdout


def test_no_pickle_is_stored(project, compared):
    stored = [
        path for root in ("mlruns", "mlartifacts") for path in (project.folder / root).rglob("*") if path.is_file()
    ]
    assert stored
    assert not [path for path in stored if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".joblib"}]


def test_a_run_is_repeated_from_its_configuration_alone(project, children, tmp_path):
    run = children["vae"]
    config = project.client.download_artifacts(run.info.run_id, "config.yaml", str(tmp_path))
    done = project.call("train", f"config={config}")
    assert done.returncode == 0, done.stderr
    again = next(r for r in project.runs() if r.data.tags.get("mlflow.project.entryPoint") == "train")
    assert again.info.run_name == "vae-digits-s0"
    for key in ("val/loss", "score/prior/fd_pixels", "score/mixture/fd_pixels", "score/riemannian/fd_pixels"):
        assert again.data.metrics[key] == pytest.approx(run.data.metrics[key], rel=1e-6), key


def test_report_is_one_page_with_the_pictures_of_both_models(project, children, parent):
    from base64 import b64encode

    search = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    done = project.call("report", f"search={search}", "output=out dir/r.html")
    assert done.returncode == 0, done.stderr
    page = (project.folder / "out dir" / "r.html").read_text()
    for run in children.values():
        assert run.data.tags["mlflow.runName"] in page
        for path in (item.path for item in list_files(project.client, run.info.run_id)):
            if path == "figures/latent_map.png" or re.match("images/samples.*\\d.png", path):
                data = Path(project.client.download_artifacts(run.info.run_id, path)).read_bytes()
                assert b64encode(data).decode() in page, path
    assert page.count("Losses over epochs, one line for each run") >= 1
    made = next(r for r in project.runs() if r.data.tags.get("role") == "report")
    assert [item.path for item in project.client.list_artifacts(made.info.run_id)] == ["report.html"]
    assert (
        "no experiment 'elsewhere'; there are"
        in project.module("mlflow_projects.report", "--experiment=elsewhere").stderr
    )
    bad = project.module("mlflow_projects.report", "--experiment=t", "--search=loss is low")
    assert bad.returncode == 2
    assert "error: the search 'loss is low' is not valid: " in bad.stderr


def test_promote_is_refused_or_rolled_back_by_exit_code_and_sentence(project, children):
    worse = max(children.values(), key=lambda run: run.data.metrics["best/fd_pixels"])
    refused = project.call("promote", f"candidate={worse.info.run_id}")
    assert refused.returncode != 0
    assert ") stays champion; the candidate is refused:" in refused.stdout
    assert "is not below the champion's fd_pixels" in refused.stdout
    nothing = project.module("mlflow_projects.promote", "--rollback", "true")
    assert nothing.returncode == 2
    assert "error: geovae has no previous champion to go back to" in nothing.stderr
    assert str(project.client.get_model_version_by_alias("geovae", "champion").version) == "1"


def test_a_second_comparison_adds_a_version_and_keeps_a_better_champion(project, compared):
    done = project.call("main", "comparison=tiny.yaml", "training.learning_rate=1e-9", "concurrency=1", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "Registered as geovae version 2.\nversion 1 (fd_pixels " in done.stdout
    assert ") stays champion; the candidate is refused:" in done.stdout
    assert str(project.client.get_model_version_by_alias("geovae", "champion").version) == "1"


def test_generate_writes_numbered_pngs_and_refuses_to_overwrite(project, compared):
    done = project.module("mlflow_projects.generate", "--n", "3", "--sampler", "prior", "--output", "some pictures")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (project.folder / "some pictures").iterdir()) == [f"{i:08d}.png" for i in range(3)]
    assert "the first 3 on one sheet: http://127.0.0.1:5000/#/experiments/" in done.stdout
    again = project.module("mlflow_projects.generate", "--n", "3", "--output", "some pictures")
    assert again.returncode == 2
    assert "error: some pictures exists already" in again.stderr


def test_evaluate_scores_a_registered_model(project, compared):
    done = project.call("evaluate", "model=models:/geovae@champion", "n=60", "extractor=pixels", "sampler=prior")
    assert done.returncode == 0, done.stderr
    run = next(r for r in project.runs() if r.data.tags.get("mlflow.project.entryPoint") == "evaluate")
    assert run.data.metrics["score/n"] == 60
    assert run.data.metrics["score/fd_pixels"] > 0
    files = {item.path for item in project.client.list_artifacts(run.info.run_id, "figures")}
    assert files == {"figures/prd.png", "figures/nearest.png"}
    report = Path(project.client.download_artifacts(run.info.run_id, "report.json"))
    assert json.loads(report.read_text())["settings"]["extractor"] == "pixels"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--data.name=mnist"], "data_folders/mnist/mnist_32x32.npz"),
    ],
)
def test_bad_data_is_one_sentence(end, flags, sentence):
    code, said = end(train, *flags)
    assert code == 2, said.err
    assert sentence in said.err
    assert "Traceback" not in said.err


def test_a_bad_value_arrives_unharmed_and_fails_the_run_that_mlflow_made(project, compared):
    value = "a b'c\"d$HOME;`x`\n$(touch harmed)\\"
    done = project.run("train", f"resume={value}")
    assert done.returncode != 0
    assert f"nothing to resume at {value!r}" in done.stderr + done.stdout
    assert not list(project.folder.rglob("harmed*")), "a shell has read the value"
    run = project.runs()[0]
    assert run.info.status == "FAILED"
    assert not [key for key in run.data.params if key.startswith("cfg.")]


def test_a_commit_of_a_bare_clone_runs_from_its_git_url_into_an_existing_run(project, tmp_path):
    """`file://` and a path that exists would be taken for a folder: without `.git` at the end, git finds it alone."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("runs", "ml*", "out dir", "some pictures", "__pycache__")
    shutil.copytree(
        project.folder, source, ignore=lambda d, names: ignored(d, names) - {"mlflow_projects", "MLproject"}
    )
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=source, check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], cwd=source, capture_output=True, text=True, check=True).stdout
    (source / "MLproject").write_text("name: later\n")
    subprocess.run([*git, "commit", "-qam", "a later commit, in which nothing runs"], cwd=source, check=True)
    subprocess.run([*git, "clone", "-q", "--bare", str(source), str(tmp_path / "geovae.git")], check=True)
    experiment = project.client.create_experiment("by hand")
    run_id = project.client.create_run(experiment).info.run_id
    output = tmp_path / "drawn here"
    command = project.command("generate", "n=2", "sampler=prior", f"output={output}")
    command[4] = f"file://{tmp_path}/geovae"
    command[command.index("--experiment-name") + 1] = "by hand"
    done = subprocess.run(
        [*command, "--version", commit.strip(), "--run-id", run_id],
        cwd=tmp_path,
        env=project.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(output.iterdir())) == 2
    run = project.client.get_run(run_id)
    assert (run.info.status, run.data.tags["sampler"]) == ("FINISHED", "prior")
    assert len(project.client.search_runs([experiment])) == 1


def test_sigterm_ends_a_run_as_killed_by_143_and_it_resumes(project, compared):
    flags = [f"--{p}" for p in SMALL if not p.startswith("training.epochs")]
    command = [sys.executable, "-m", "mlflow_projects.train", "--training.epochs=400", *flags]
    process = subprocess.Popen(command, cwd=project.folder, env=project.environment, stderr=subprocess.PIPE, text=True)
    started = time.time()
    folder = None
    while folder is None:
        assert process.poll() is None, process.stderr.read()
        folders = [p.parent for p in (project.folder / "runs").glob("train-*/checkpoint.safetensors")]
        folder = next((p for p in folders if p.stat().st_mtime > started), None)
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    stopped = next(
        r
        for r in project.client.search_runs([project.client.get_experiment_by_name("geovae").experiment_id])
        if r.info.run_name == "vae-digits-s0"
    )
    assert stopped.info.status == "KILLED"
    done_epochs = len(checkpoint.load(folder / "checkpoint.safetensors")[1]["state"]["history"])
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["training"]["epochs"] == 400
    more = done_epochs + 2
    resumed = project.module("mlflow_projects.train", f"--resume={folder}", f"--training.epochs={more}")
    assert resumed.returncode == 0, resumed.stderr
    tensors, meta = checkpoint.load(folder / "checkpoint.safetensors")
    assert [record["epoch"] for record in meta["state"]["history"]] == list(range(1, more + 1))
    assert all(value.isfinite().all() for value in tensors.values() if value.dtype == torch.float32)


def test_a_checkpoint_of_another_architecture_is_refused(project, compared, end):
    folder = next(p.parent for p in (project.folder / "runs").rglob("train-*/checkpoint.safetensors"))
    code, said = end(train, f"--resume={folder}", "--model.latent_dim=7")
    assert code == 2
    assert "holds a model of another architecture" in said.err


def test_what_is_shown_to_be_pasted_runs_as_pasted_and_so_does_what_it_prints(project, parent, children):
    """Commands of pages, of the help's examples, of remedies, and of the output of all these."""
    folders = dict.fromkeys(("DIR_OF_PNGS", "OTHER_DIR", "TEST_PNGS", "SAMPLES", "TRAINING_PNGS", "FOLDER"), "drawn")
    values = folders | {"RUN_ID": children["vae"].info.run_id, "PARENT_ID": parent.info.run_id}
    waiting = ["mlflow run . --env-manager local -e generate -P n=20 -P sampler=prior -P output=drawn"]
    waiting += [command for commands in pasted.shown().values() for command in commands]
    done, failed = set(), {}
    while waiting:
        command = waiting.pop(0).partition(" #")[0].strip()
        entry, flags = pasted.parsed(command)
        same = entry, re.sub(r"\b[0-9a-f]{32}\b|\d{8}-\d+-\d+", "ID", " ".join(flags))
        if same in done or any(re.search(pattern, command) for pattern in pasted.NOT_RUN):
            continue
        done.add(same)
        shutil.rmtree(project.folder / "pictures", ignore_errors=True)  # nothing is overwritten
        result = pasted.paste(project, command, values)
        if result.returncode not in (0, 3):  # 3: a promotion was refused
            failed[command] = result.stderr[-300:]
        if command.startswith("mlflow") and (found := re.search(r"    run: (\w+)$", result.stdout, re.MULTILINE)):
            values["RUN_ID"] = found[1]  # of a training, which can be resumed
        waiting += pasted.in_text(result.stdout + result.stderr)
    assert not failed
    assert len(done) > 12
