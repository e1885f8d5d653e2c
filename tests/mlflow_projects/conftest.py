"""Runs as the thread leaves them in a real store: a model file, trained in a second, its scores under their names."""

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from geovae.codes import encode_images
from geovae.models import build_model
from geovae.saved_model import save_model
from geovae.training import Trainer
from mlflow_projects import entry

mlflow = pytest.importorskip("mlflow")

SHAPE = (1, 8, 8)
OPTIONS = {"network": "mlp", "width": 32, "latent_dim": 2, "beta": 0.1}


def eight_pixel_digits():
    """Return 300 images (n, 1, 8, 8), uint8, of the digits 0, 1, 2 in turn, and their labels."""
    images, target = load_digits(return_X_y=True)
    rows = np.stack([np.flatnonzero(target == label)[:100] for label in range(3)], axis=1).ravel()
    pixels = (images[rows] / 16 * 255).round().astype(np.uint8).reshape(-1, *SHAPE)
    return torch.from_numpy(pixels), torch.from_numpy(target[rows]).long()


@pytest.fixture
def end(monkeypatch, tmp_path, capsys):
    """Call an entry point with flags, as a process of its own would; return its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")  # MLflow sets it for later processes: it is taken back
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    monkeypatch.setattr("warnings.showwarning", lambda *args, **options: None)
    monkeypatch.setattr("signal.signal", lambda *args: None)

    def call(module, *flags):
        monkeypatch.setattr(sys, "argv", ["program", *flags])
        with pytest.raises(SystemExit) as ended:
            entry.main(module.main)
        return ended.value.code, capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    """A model file of a small VAE, trained on the digits 0, 1 and 2, with 60 codes, 20 of each class."""
    images, labels = eight_pixel_digits()
    trainer = Trainer(epochs=40, batch_size=20, learning_rate=1e-2)
    state = trainer.start(build_model("vae", SHAPE, seed=0, **OPTIONS))
    for _ in trainer.run(state, images, images[:60]):
        pass
    model = state.load_best().eval()
    return save_model(
        tmp_path_factory.mktemp("model") / "model.safetensors",
        model,
        replace(encode_images(model, images[:60]), labels=labels[:60]),
        name="vae",
        options=OPTIONS,
        image_shape=SHAPE,
        data={"name": "digits"},
        digest="d" * 32,
        sampler={"riemannian": {"n_centroids": 30, "n_transitions": 3}},
        best_sampler="mixture",
        headline="fd_pixels",
        scores={},
        seed=0,
    )


class Store:
    """A real SQLite store with one experiment."""

    def __init__(self, folder, model_file):
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = mlflow.MlflowClient(self.uri)
        self.experiment = self.client.create_experiment("geovae", artifact_location=str(folder / "artifacts"))
        self.model_file = model_file

    def run(self, score, *, seed=0, config="c", parent=None, digest="d" * 32, n=500, name="vae", **more):
        """Make a finished run with a headline score on validation images; return its id."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

        tags = {
            "model": "vae",
            "seed": str(seed),
            "config_over_seeds": config,
            "best_sampler": "mixture",
            "headline": "fd_pixels",
        }
        tags |= {"mlflow.parentRunId": parent} if parent else {}
        run_id = self.client.create_run(self.experiment, tags=tags | more.pop("tags", {}), run_name=name).info.run_id
        numbers = {"best/fd_pixels": score, "best/val_loss": 1.0, "val_score/mixture/fd_pixels": score}
        numbers |= {"val_score/mixture/n": n, "score/fd_pixels": score, "score/n": n, "score/nn_pixels_ratio": 1.1}
        self.client.log_batch(run_id, [Metric(key, value, 0, 0) for key, value in (numbers | more).items()])
        data = {
            part: Dataset(name=f"digits-{part}", digest=digest, source_type="local", source="{}")
            for part in ("train", "val", "test")
        }
        inputs = [DatasetInput(one, [InputTag("mlflow.data.context", part)]) for part, one in data.items()]
        self.client.log_inputs(run_id, inputs)
        self.client.log_artifact(run_id, str(self.model_file), "model")
        self.client.set_terminated(run_id)
        return run_id


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """An empty store whose tables exist: making them takes seconds, copying them does not."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # the artifacts of its experiments are kept in the folder where the tables are made
        mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def client(database, tmp_path, monkeypatch):
    """A client of a fresh store in the folder where the test works."""
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(None)  # first: it removes the variable
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(None)


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


@pytest.fixture
def store(database, model_file, tmp_path, monkeypatch):
    """A fresh store, which MLflow's own functions use too."""
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    made = Store(tmp_path, model_file)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    mlflow.set_tracking_uri(made.uri)
    yield made
    mlflow.set_tracking_uri(None)  # what it would return here is this store, by the environment
