"""Runs as the thread leaves them in a real store, made without training: a model file, its scores under their names."""

import sys

import pytest
import torch

from geovae.codes import encode_images
from geovae.models import build_model
from geovae.saved_model import save_model
from mlflow_projects import entry

mlflow = pytest.importorskip("mlflow")

SHAPE = (1, 8, 8)
OPTIONS = {"network": "mlp", "width": 8, "latent_dim": 2}


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
    """A model file of a small VAE with 60 codes of three classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(60, *SHAPE, generator=generator)
    model = build_model("vae", SHAPE, seed=0, **OPTIONS).eval()
    return save_model(
        tmp_path_factory.mktemp("model") / "model.safetensors",
        model,
        encode_images(model, images),
        name="vae",
        options=OPTIONS,
        labels=torch.arange(60) % 3,
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
    mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def store(database, model_file, tmp_path, monkeypatch):
    """A fresh store, which MLflow's own functions use too."""
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    made = Store(tmp_path, model_file)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    mlflow.set_tracking_uri(made.uri)
    yield made
    mlflow.set_tracking_uri(None)  # what it would return here is this store, by the environment
