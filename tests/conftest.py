"""Shared fixtures: the device, private folders, one thread a process; no test reaches the network."""

import os
import sys
import tempfile
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MPLBACKEND"] = "Agg"

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from geovae.codes import encode_images
from geovae.data import DATASETS
from geovae.models import build_model
from geovae.saved_model import save_model
from geovae.training import Trainer

pytest.register_assert_rewrite("tests.tuning.exact")  # no test file, but it asserts
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every test that takes `device` runs on the CPU always, and on the GPU where there is one."""
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def _no_experiment_of_another_test() -> Iterator[None]:
    """Take back what `mlflow.set_experiment` tells later processes: each test's store has ids of its own."""
    yield
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded CPU generator."""
    return torch.Generator().manual_seed(0)


# Tests of images use these models: an untrained decoder gives nearly the same grey for every latent, and a test that
# compares its images cannot fail.
@pytest.fixture(scope="session")
def trained_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file: a VAE of 4 latent dimensions, trained on 500 of mnist_5k (1x32x32, 10 labels) in seconds."""
    return train_on_digits("vae", tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def trained_ae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file as `trained_vae`, of an autoencoder, whose codes have no variances."""
    return train_on_digits("ae", tmp_path_factory.mktemp("trained"))


def train_on_digits(name: str, folder: Path) -> Path:
    """Train a small model on 500 MNIST digits and write its model file."""
    data, options = {"name": "mnist_5k", "train_size": 500}, {"latent_dim": 4, "network": "mlp", "width": 64}
    options |= (
        {"beta": 0.05} if name == "vae" else {}
    )  # at beta 1 so short a training leaves the posterior at the prior
    splits = DATASETS["mnist_5k"](train_size=500)
    trainer = Trainer(epochs=40, batch_size=50, learning_rate=5e-3)
    state = trainer.start(build_model(name, splits.image_shape, **options))
    for _ in trainer.run(state, splits.train.images, splits.val.images):
        pass
    model = state.load_best().eval()
    return save_model(
        folder / "model.safetensors",
        model,
        replace(encode_images(model, splits.train.images), labels=splits.train.labels),
        name=name,
        options=options,
        image_shape=splits.image_shape,
        data=data,
        digest=splits.digest,
        sampler={"mixture": {"n_components": 12}, "riemannian": {"n_centroids": 30, "n_transitions": 3}},
        best_sampler="mixture",
        headline="fd_pixels",
        scores={},
        seed=0,
    )


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own caches."""
    # not `mktemp`, which lists the folders of all tests before
    home = tempfile.mkdtemp(prefix="home-", dir=tmp_path_factory.getbasetemp())
    for name in ("HOME", "TORCH_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, home)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file comes first, so that other processes have something to do meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_faults.py")


@pytest.fixture(scope="module")
def torchvision_or_none():
    """Hide a torchvision that was built for another torch: diffusers does without one, but not with that."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            import torchvision  # noqa: F401
        except (ImportError, RuntimeError):
            patch.setitem(sys.modules, "torchvision", None)
        yield
