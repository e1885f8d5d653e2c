"""Bad input ends an entry point with one sentence and exit code 2, before any run is made."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from geovae.data import DATASETS
from mlflow_projects import (
    brains,
    cohort,
    entry,
    evaluate,
    generate,
    import_checkpoint,
    inspect,
    main,
    prepare,
    promote,
    report,
    study,
    sweep,
    sync,
    train,
)
from mlflow_projects.command_line import bind
from tools.mlproject import ENTRY_POINTS, OF_RUNS, mlproject, parameters

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "flags", "sentence"),
    [
        (train, ["--model.latent_dim=0"], "error: `latent_dim` must be at least 1, got 0"),
        (train, ["--model.latent_dmi=3"], "error: unknown option 'model.latent_dmi'; did you mean model.latent_dim"),
        (train, ["--resume=nothing"], "error: nothing to resume at 'nothing': expected checkpoint.safetensors"),
        (train, ["--resume"], "error: option --resume needs a value"),
        (train, ["--seed=-1"], "error: `seed` must be a whole number in [0, 2^32), got -1"),
        (train, ["--training.batch_size=2000", "--data.augment=0"], "is larger than the training set of 1257 images"),
        (
            train,
            ["--n_samples=5"],
            "error: the scores frechet, kid, prd, precision_recall need 10 images, the test split",
        ),
        (train, ["--samplers=prior,mixture,prior"], "error: `samplers` names prior twice"),
        (train, ["--scores=frechet,frechet"], "error: `scores` names frechet twice"),
        (train, [f"--n_samples={10**12}"], "error: `n_samples` must be smaller: 1000000000000 images have 1.02e+15 by"),
        (train, ["--model.width=" + "9" * 50], "error: `model.width` is too large a number"),
        (sweep, ["--watched=nope"], "error: `watched` must be one of val/loss, "),
        (sweep, ["--space=" + "x" * 5000], "error: file name too long: xxx"),
        (
            study,
            ["--name=figure1", "--size=ci", "--output=/proc/x"],
            "error: cannot write to the output folder /proc/x",
        ),
        (study, ["--name=table1", "--seeds=100000000"], "error: `seeds` must be at most 10000, got 100000000"),
        (prepare, ["--dataset=folder", "--source=" + "x" * 5000], "error: file name too long: xxx"),
        (prepare, ["--dataset=folder", "--source=.", "--size=1000000"], "error: `size` must be a whole number from 1"),
        (prepare, ["--dataset=folder", "--source=."], "error: no images at .: looked for .png"),
        (main, ["--comparison=/dev/zero"], "error: cannot read the configuration /dev/zero: it is no file"),
        (main, ["--comparison=no.yaml"], "error: cannot read the configuration no.yaml"),
        (generate, ["--n=0"], "error: `n` must be a whole number of at least 1, got 0"),
        (
            generate,
            ["--samples=3"],
            "error: unknown option 'samples'; did you mean sampler? valid here: label, mo",
        ),
        (generate, ["--model=elsewhere"], "error: no model at 'elsewhere': give a file, models:/geovae@champion"),
        (evaluate, ["--n=5"], "error: give either --model, or both --real and --fake"),
        (evaluate, ["--model=m", "--real-labels=l.npy"], "error: --real-labels and --fake-labels go with --real and"),
        (
            evaluate,
            ["--real=a", "--fake=b", "--extractor=vgg"],
            "error: `extractor` must be one of inception, ",
        ),
        (evaluate, ["--real=a", "--fake=b", "--inception-weights=none.pth"], "error: no Inception weights at none.pth"),
        (evaluate, ["--real=a", "--fake=b", "--extractor=inception"], "error: no Inception weights at "),
        (evaluate, ["--real=a", "--fake=b", "--extractor=module"], "error: the extractor 'module' needs to know which"),
        (evaluate, ["--real=a", "--fake=b", "--device=tpu"], "error: `device` must be auto, cpu or cuda, got 'tpu'"),
        (
            evaluate,
            ["--real=a", "--fake=b", "--batch-size=0"],
            "error: `batch_size` must be a whole number",
        ),
        (evaluate, ["--real=a", "--fake=b", "--compare=no.json"], "error: no report at no.json: expected the"),
        (train, ["--extractor=inception"], "error: no Inception weights at "),
        (train, ["--extractor=module"], "error: the extractor 'module' needs to know which"),
        (prepare, ["--dataset=imagenet", "--source=x"], "error: `dataset` must be one of mnist, "),
        (prepare, ["--dataset=mnist", "--source=x", "--fast=1"], "error: unknown option 'fast'; valid here: source"),
        (prepare, ["--dataset=folder"], "error: `source` must be the folder of your images; got ''"),
        (prepare, ["--dataset=mnist", "--source=ftp://x"], "error: `source` must be a path or an address with http"),
        (
            prepare,
            ["--dataset=oasis", "--source=x", "--shown=0"],
            "error: `shown` must be a whole number of at least 1",
        ),
        (prepare, ["--dataset=oasis", "--source=x", "--masked_ids=maybe"], "error: `masked_ids` must be true or false"),
        (
            prepare,
            ["--dataset=oasis", "--source=x", "--qc_view=up"],
            "error: `qc_view` must be one of ",
        ),
        (prepare, ["--dataset=oasis", "--source=x"], "error: `x` is not a folder: `source` must be the folder that"),
        (prepare, ["--dataset=oasis", "--source=.", "--at=[0.5,0.5]"], "error: `at` must name at least one position"),
        (inspect, ["--source=x"], "error: `x` is not a folder: `source` must be the folder that holds the volumes"),
        (cohort, ["--folder=x", "--subjects=0"], "error: `subjects` and `workers` must be at least 1"),
        (
            cohort,
            [f"--subjects={10**12}"],
            "error: `subjects` must be at most 9000, got 1000000000000: a sub",
        ),
        (cohort, ["--folder=/dev/null/x"], "error: cannot write to the output folder /dev/null/x: /dev/null is no fol"),
        (prepare, ["--dataset=mnist", "--source=x", "--root=/dev/null"], "error: cannot write to the output folder /d"),
        (brains, ["--model=elsewhere"], "error: no model at 'elsewhere': give a file, models:/geovae@champion"),
        (brains, ["--n=1"], "error: `n` must be a whole number of at least 2, got 1"),
        (study, ["--name=oasis", "--size=full"], "error: no `data_folders/oasis/OASIS.npz`: call geovae.mri"),
        (promote, [], "error: give one of --candidate (a run id, the id of a parent run, or a version), --rollback tr"),
        (promote, ["--candidate=1", "--rollback=true"], "error: give one of --candidate (a run id, the id of a parent"),
        (promote, ["--candidate=1", "--min_seeds=few"], "error: `min_seeds` must be a whole number, got 'few'"),
        (promote, ["--candidate=1", "--min_nearest=-1"], "error: `min_nearest` must be 0 or more and finite, got -1.0"),
        (promote, ["--candidate=1", "--dry_run=maybe"], "error: `dry_run` must be true or false, got 'maybe'"),
        (report, ["--limit=0"], "error: `limit` must be a whole number of at least 1, got 0"),
        (import_checkpoint, [], "error: give --path"),
        (import_checkpoint, ["--path=no.pt"], "error: no published model at no.pt"),
        (sync, ["elsewhere"], "error: no folder elsewhere: give the folder of a run"),
    ],
)
def test_bad_input_is_one_sentence(end, module, flags, sentence, tmp_path):
    code, said = end(module, *flags)
    assert code == 2
    assert sentence in said.err
    assert "Traceback" not in said.err
    assert not list(tmp_path.iterdir()), "something was written"


@pytest.mark.parametrize(
    ("module", "flags", "sentence"),
    [
        (
            generate,
            [f"--n={10**12}"],
            "error: `n` must be smaller: 1000000000000 images have 6.4e+13 bytes, more",
        ),
        (evaluate, [f"--n={10**12}", "--extractor=pixels"], "error: `n` must be smaller: 1000000000000 images have"),
        (evaluate, ["--n=5", "--extractor=pixels"], "error: `n` must be a whole number of at least 20, got 5"),
    ],
)
def test_numbers_of_images_that_no_model_can_draw_or_no_score_can_judge(end, module, flags, sentence, model_file):
    before = set(model_file.parent.iterdir())
    code, said = end(module, f"--model={model_file}", *flags)
    assert code == 2
    assert sentence in said.err
    assert set(model_file.parent.iterdir()) == before


def test_a_bad_run_of_a_comparison_is_named(end, tmp_path):
    (tmp_path / "c.yaml").write_text("dataset: digits\nruns: {good: {}, bad: {model.width: 0}}\n")
    code, said = end(main, "--comparison=c.yaml")
    assert code == 2
    assert "error: run 'bad': `width` must be at least 1, got 0" in said.err


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("mnist", "mlflow run . --env-manager local -e prepare -P dataset=mnist`, which fetches the originals too"),
        ("oasis_volumes", "prepare -P dataset=oasis -P source=FOLDER -P arrays=npy -P arrays_spacing=4`"),
    ],
)
def test_missing_data_ends_with_the_command_that_builds_them(end, name, command):
    def load_data() -> None:
        DATASETS[name](root="nowhere")

    code, said = end(SimpleNamespace(main=load_data))
    assert code == 2
    assert "does not exist" in said.err
    assert command in said.err


def test_mlproject_is_made_from_the_signatures():
    assert (ROOT / "MLproject").read_text() == mlproject(), "run `make mlproject`"


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_defaults_of_mlproject_are_values_that_the_entry_point_takes(name):
    function = importlib.import_module(f"mlflow_projects.{name}").main
    own = {option: value for option, value in parameters(name).items() if option not in OF_RUNS.get(name, ())}
    required = {name: "digits" for name in ("dataset", "source", "path") if own.get(name) == ""}
    required |= {"kind": "weights"} if "kind" in own else {}  # of `adopt`
    given = {option: value for option, value in own.items() if value} | required
    assert bind(function, given) == bind(function, required)


@pytest.mark.parametrize("status", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_a_server_that_refuses_the_user_is_one_sentence(end, status):
    from types import SimpleNamespace

    from mlflow.exceptions import RestException

    def refused():
        raise RestException({"error_code": status, "message": "no rights"})

    code, said = end(SimpleNamespace(main=refused))
    assert code == 2
    assert "refuses this user" in said.err
    assert "no rights" in said.err


@pytest.mark.parametrize(
    "module",
    [main, train, generate, evaluate, promote, report, sync, inspect, cohort, brains, study, sweep],
)
def test_help_helps(end, module):
    code, said = end(module, "--help")
    assert code == 0
    assert len(said.out) > 100


def test_help_needs_none_of_the_large_packages():
    """Only a new process shows it: in this one, other tests have imported them."""
    heavy = {"ray", "mlflow", "pandas", "pyarrow", "matplotlib", "sklearn", "optuna", "nibabel"}
    program = f"""
import importlib, sys
from experiments.config import resolve
from mlflow_projects import entry
for name in {[*ENTRY_POINTS, "sync", "reap"]}:
    module = importlib.import_module("mlflow_projects." + name)
    for more in (None, resolve) if name == "train" else (None,):
        try:
            entry.call(module.main, ["--help"], more)
        except SystemExit:
            pass
sys.exit(" ".join({heavy} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("module", "own"), [(main, "--comparison"), (study, "--size"), (sweep, "--trials")])
def test_help_is_of_the_entry_points_own_options(end, module, own):
    _, said = end(module, "--help")
    assert own in said.out
    assert "train --help` lists them" in " ".join(said.out.split())


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(PermissionError, match="cannot write to the output folder .*blocked"):
        entry.writable(tmp_path / "blocked")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, "geovae"), ({"MLFLOW_EXPERIMENT_NAME": "mine"}, "mine"), ({"MLFLOW_EXPERIMENT_ID": "theirs"}, "theirs")],
)
def test_a_run_goes_into_the_experiment_of_the_environment(store, monkeypatch, tmp_path, variables, expected):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.setenv(name, "")  # MLflow sets the id for later processes: both are taken back at the end
        monkeypatch.delenv(name)
    if "MLFLOW_EXPERIMENT_ID" in variables:
        monkeypatch.setattr(entry, "EXPERIMENT_ID", store.client.create_experiment("theirs"))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", variables.get("MLFLOW_EXPERIMENT_NAME", ""))
    with entry.open_run("train") as tracker:
        pass
    assert store.client.get_experiment(tracker.experiment_id).name == expected


@pytest.mark.parametrize(("name", "shown"), [(None, "a title"), ("my-own-1", "my-own-1"), ("wise", "wise")])
def test_a_run_that_nobody_named_is_named_by_what_it_does(store, monkeypatch, tmp_path, name, shown):
    monkeypatch.chdir(tmp_path)
    run = store.client.create_run(store.experiment, run_name=name)
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    with entry.open_run("train", "a title"):
        pass
    assert store.client.get_run(run.info.run_id).info.run_name == shown
    assert "MLFLOW_RUN_ID" not in entry.os.environ
