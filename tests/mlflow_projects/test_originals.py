"""Other people's files through the entry points, into a real store: originals, published checkpoints, images."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from geovae.codes import encode_images
from geovae.data import DATASETS
from geovae.data.builders import ORIGINALS
from geovae.data.download import list_originals
from geovae.evaluation import extract, inception, inception_weights_path
from geovae.models import build_model
from geovae.saved_model import load_model
from mlflow_projects import entry, evaluate, import_checkpoint, prepare
from tests.data.host import serve
from tests.data.originals import write_mnist

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of small sample sizes

PUBLISHED_NAMES = {
    "encoder.body.1": "fc1", "encoder.body.3": "fc11", "encoder.heads.0": "fc21", "encoder.heads.1": "fc22",
    "decoder.body.0": "fc3", "decoder.body.2": "fc33", "decoder.body.4": "fc4",
}  # fmt: skip


def only_run(client):
    (experiment,) = client.search_experiments(filter_string="name = 'geovae'")
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def publish(model, **args):
    """Write best_model.pt as the published code names the parts of its mlp."""
    common = {"model_name": "VAE", "architecture": "mlp", "input_dim": 1024}
    parts = [(*name.rsplit(".", 1), value) for name, value in model.state_dict().items()]
    assert {part for part, _, _ in parts} == set(PUBLISHED_NAMES)
    state = {f"{PUBLISHED_NAMES[part]}.{name}": value for part, name, value in parts}
    torch.save({"state_dict": state, "args": common | args}, "best_model.pt")


def test_prepare_writes_the_files_that_the_loader_reads_and_says_so_in_a_run(client, tmp_path):
    write_mnist(tmp_path / "original", n=10_020)
    entry.call(prepare.main, ["--dataset=mnist", "--source=original", "--root=data"])
    splits = DATASETS["mnist"](root="data")
    assert (len(splits.train), len(splits.val), len(splits.test)) == (20, 10_000, 7)
    run = only_run(client)
    assert run.info.status == "FINISHED"
    assert run.data.params["cfg.dataset"] == "mnist"
    assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/build.json")


@pytest.fixture
def host(monkeypatch):
    """A host of small original files of mnist, which are taken for the published ones."""
    with serve() as host:
        write_mnist(Path("small"), n=10_020)
        for path in Path("small").iterdir():
            host.put(path.name, path.read_bytes())
        md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in Path("small").iterdir()}
        monkeypatch.setitem(ORIGINALS, "mnist", list_originals("http://page.invalid/", md5, [host.address]))
        monkeypatch.setattr("geovae.data.download.PAUSE", 0.0)
        monkeypatch.setenv("no_proxy", "*")
        yield host


def test_prepare_without_a_source_fetches_the_original_and_builds_it(client, host, tmp_path):
    host.faults = ["cut"]
    entry.call(prepare.main, ["--dataset=mnist", "--root=data"])
    assert len(host.requests) == 5
    assert len(DATASETS["mnist"](root="data").test) == 7
    assert len(list((tmp_path / "data/originals/mnist").iterdir())) == 4
    assert only_run(client).data.params["cfg.source"] == "data/originals/mnist"
    entry.call(prepare.main, ["--dataset=mnist", "--root=data"])
    assert len(host.requests) == 5


def test_prepare_fetches_from_a_mirror(client, host):
    for path in list(host.files):
        host.files[f"/mirror{path}"] = host.files.pop(path)
    entry.call(prepare.main, ["--dataset=mnist", "--root=data", f"--source={host.address}mirror"])
    assert len(DATASETS["mnist"](root="data").test) == 7


def test_prepare_that_cannot_fetch_says_what_to_do_before_a_run_is_made(client, host):
    host.files.clear()
    with pytest.raises(FileNotFoundError, match=r"it answers 404 Not Found\): fetch .* into `data/originals/mnist`"):
        entry.call(prepare.main, ["--dataset=mnist", "--root=data"])
    assert not client.search_experiments(filter_string="name = 'geovae'")


@pytest.mark.parametrize("given", [[], ["--source=http://127.0.0.1:9/"]])
@pytest.mark.parametrize(("name", "due"), [("folder", "the folder of your images"), ("oasis", "sites.wustl.edu")])
def test_what_is_not_fetched_needs_a_source(client, name, due, given):
    with pytest.raises(ValueError, match=f"`source` must be .*{due}.*, and {name} is not fetched"):
        entry.call(prepare.main, [f"--dataset={name}", *given])


def test_the_inception_weights_are_fetched_to_where_the_scores_look(client, host, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    host.put(inception.WEIGHTS_NAME, b"weights")
    monkeypatch.setattr(inception, "WEIGHTS_URL", host.address + inception.WEIGHTS_NAME)
    with pytest.raises(FileNotFoundError, match="its file has sha256:[0-9a-f]{64}, published is sha256:6726825d"):
        entry.call(prepare.main, ["--dataset=inception"])
    assert inception_weights_path() is None
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", hashlib.sha256(b"weights").hexdigest())
    entry.call(prepare.main, ["--dataset=inception"])
    assert inception_weights_path().read_bytes() == b"weights"


@pytest.mark.parametrize("source", ["mine", f"mine/{inception.WEIGHTS_NAME}"])
def test_inception_weights_from_disk_are_checked_and_copied(client, monkeypatch, tmp_path, source):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    Path("mine").mkdir()
    (Path("mine") / inception.WEIGHTS_NAME).write_bytes(b"weights")
    with pytest.raises(ValueError, match="is not FID's Inception file"):
        entry.call(prepare.main, ["--dataset=inception", f"--source={source}"])
    assert inception_weights_path() is None
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", hashlib.sha256(b"weights").hexdigest())
    entry.call(prepare.main, ["--dataset=inception", f"--source={source}"])
    assert inception_weights_path().read_bytes() == b"weights"


def test_a_published_model_is_scored_and_kept_like_one_of_ours(client):
    model = build_model("vae", (1, 32, 32), network="mlp", latent_dim=3, beta=0.05, seed=5)
    publish(model, latent_dim=3, beta=0.05, dataset="mnist")
    quick = ["--extractor=pixels", "--n_samples=40", "--samplers=prior,mixture", "--scores=frechet", "--data.augment=0"]
    entry.call(import_checkpoint.main, ["--path=best_model.pt", "--dataset=digits", *quick])
    run = only_run(client)
    assert run.data.tags["imported_from"] == "best_model.pt"
    assert {"score/prior/fd_pixels", "score/mixture/fd_pixels", "best/fd_pixels"} <= run.data.metrics.keys()
    saved = load_model(client.download_artifacts(run.info.run_id, "model/model.safetensors"))
    images = saved.splits().train.images
    torch.testing.assert_close(saved.codes.mu, encode_images(model.eval(), images).mu)


def test_a_published_model_of_other_images_is_refused_before_a_run_is_made(client):
    publish(build_model("vae", (3, 32, 32), network="mlp", latent_dim=2), dataset="cifar", n_channels=3)
    with pytest.raises(ValueError, match=r"draws images of shape \(3, 32, 32\), but digits has \(1, 32, 32\)"):
        entry.call(import_checkpoint.main, ["--path=best_model.pt", "--dataset=digits"])
    assert not client.search_experiments(filter_string="name = 'geovae'")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"fake.npy": np.zeros((80, 8, 9, 1), np.uint8)}, r"`real` is \(1, 8, 8\), `fake` is \(1, 8, 9\)"),
        (
            {"fake.npy": np.zeros((19, 8, 8, 1), np.uint8)},
            "`fake` must hold at least 20 images for .*, fake.npy holds 19",
        ),
        ({"labels.npy": np.zeros(79, int)}, r"`real_labels` must be of shape \(80,\), got \(79,\)"),
        ({"report.json": None}, "report.json is not the report.json of an earlier evaluation: this is not the JSON of"),
    ],
)
def test_files_that_do_not_fit_are_refused_before_a_run_is_made(client, changed, sentence):
    whole = {"fake.npy": np.zeros((80, 8, 8, 1), np.uint8), "labels.npy": np.zeros(80, int)}
    for name, array in ({"real.npy": whole["fake.npy"]} | whole | changed).items():
        Path(name).write_text('{"values": [], "settings": {}}') if array is None else np.save(name, array)
    flags = ["--real=real.npy", "--fake=fake.npy", "--real-labels=labels.npy", "--fake-labels=labels.npy"]
    compare = ["--compare=report.json"] if "report.json" in changed else []
    with pytest.raises(ValueError, match=sentence):
        entry.call(evaluate.main, [*flags, *compare, "--extractor=pixels"])
    assert not client.search_experiments(filter_string="name = 'geovae'")


def test_features_that_are_kept_are_not_computed_again(client, monkeypatch):
    np.save("images.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8))
    flags = ["--real=images.npy", "--fake=images.npy", "--extractor=pixels", "--cache=kept"]
    extracted = []
    monkeypatch.setattr("geovae.evaluation.extractors.extract", lambda *a, **o: extracted.append(1) or extract(*a, **o))
    entry.call(evaluate.main, flags)
    before = len(extracted)
    entry.call(evaluate.main, flags)
    assert len(extracted) == before > 0


def test_files_of_images_and_labels_are_scored_within_each_class(client):
    images = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 1), dtype=np.uint8)
    np.save("images.npy", images)
    np.save("labels.npy", np.arange(80) % 2)
    both = ["--real=images.npy", "--fake=images.npy", "--real-labels=labels.npy", "--fake-labels=labels.npy"]
    entry.call(evaluate.main, [*both, "--extractor=pixels"])
    metrics = only_run(client).data.metrics
    assert metrics["score/fd_pixels_class0"] == pytest.approx(0, abs=1e-3)
    assert metrics["score/n_class1"] == 40
