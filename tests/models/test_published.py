"""Published models are read without running anything that their file names."""

import os
import sys
import types
from dataclasses import dataclass

import pytest
import torch

from geovae.models import build_model
from geovae.models.published import read_published


@dataclass
class VAE_config:
    input_dim: int = 1024
    model_name: str = "VAE"
    architecture: str = "convnet"
    n_channels: int = 1
    latent_dim: int = 3
    beta: float = 0.05
    dataset: str = "mnist"


@pytest.fixture
def config_module(monkeypatch):
    """A module `config` for as long as a file is written; it is gone when the file is read."""
    module = types.ModuleType("config")
    monkeypatch.setattr(VAE_config, "__module__", "config")
    module.VAE_config = VAE_config
    monkeypatch.setitem(sys.modules, "config", module)
    return module


class PublishedConv(torch.nn.Module):
    """The published code's module names around the layers that its paper lists, for conv32."""

    def __init__(self, d=3):
        super().__init__()
        nn = torch.nn
        encoder, channels = [], 1
        for filters in (128, 256, 512, 1024):
            encoder += [nn.Conv2d(channels, filters, 4, 2, 1), nn.BatchNorm2d(filters), nn.ReLU()]
            channels = filters
        self.conv = nn.Sequential(*encoder)
        self.fc21, self.fc22, self.fc3 = nn.Linear(4096, d), nn.Linear(4096, d), nn.Linear(d, 65536)
        self.deconv = nn.Sequential(
            nn.ConvTranspose2d(1024, 512, 4, 2, 1), nn.BatchNorm2d(512), nn.ReLU(),
            nn.ConvTranspose2d(512, 256, 4, 2, 1, output_padding=1), nn.BatchNorm2d(256), nn.ReLU(),
            nn.ConvTranspose2d(256, 1, 4, 1, 2), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x):
        h = self.conv(x).reshape(len(x), -1)
        mu = self.fc21(h)
        return mu, self.fc22(h), self.deconv(self.fc3(mu).reshape(-1, 1024, 8, 8))


class PublishedMlp(torch.nn.Module):
    def __init__(self, d=3):
        super().__init__()
        for name, (inputs, outputs) in {
            "fc1": (1024, 1000), "fc11": (1000, 500), "fc21": (500, d), "fc22": (500, d),
            "fc3": (d, 500), "fc33": (500, 1000), "fc4": (1000, 1024),
        }.items():  # fmt: skip
            setattr(self, name, torch.nn.Linear(inputs, outputs))

    def forward(self, x):
        h = self.fc11(self.fc1(x.flatten(1)).relu()).relu()
        mu = self.fc21(h)
        return mu, self.fc22(h), self.fc4(self.fc33(self.fc3(mu).relu()).relu()).sigmoid().reshape(x.shape)


@pytest.mark.parametrize(("network", "published"), [("conv32", PublishedConv), ("mlp", PublishedMlp)])
def test_a_published_file_gives_the_same_codes_and_images(network, published, config_module, tmp_path):
    theirs = published().eval()
    args = VAE_config(architecture="convnet" if network == "conv32" else "mlp")
    torch.save({"state_dict": theirs.state_dict(), "args": args}, tmp_path / "best_model.pt")
    del sys.modules["config"]
    read = read_published(tmp_path / "best_model.pt")
    assert (read.name, read.image_shape) == ("vae", (1, 32, 32))
    assert read.options == {"latent_dim": 3, "network": network, "beta": 0.05}
    ours = build_model(read.name, read.image_shape, **read.options)
    ours.load_state_dict(read.weights)
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        mu, log_var, images = theirs(x)
        codes = ours.eval().encode(x)
        torch.testing.assert_close(codes.mu, mu)
        torch.testing.assert_close(codes.log_var, log_var)
        torch.testing.assert_close(ours.decode(mu), images)
    assert "config" not in sys.modules


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


def test_a_file_that_names_other_code_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "args": Harmful()}, "best_model.pt")
    with pytest.raises(ValueError, match=r"names (posix|nt|os)\.mkdir, which a trained model does not need"):
        read_published("best_model.pt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": {}}, "must hold a dict with `state_dict` and `args`"),
        ({"state_dict": {}, "args": {"model_name": "VAMP"}}, "holds a VAMP; only VAE and AE are read"),
        (
            {"state_dict": {"fc1.weight": torch.zeros(1)}, "args": {}},
            "holds no fc21.bias in its `state_dict`",
        ),
        (
            {"state_dict": {"fc21.bias": torch.zeros(2)}, "args": {"input_dim": 1024}},
            r"another architecture than mlp for images \(1, 32, 32\): encoder.body.1.weight is missing",
        ),
        (
            {"state_dict": {"conv.0.weight": torch.zeros(1)}, "args": {"dataset": "svhn"}},
            "no network is known for convolutions on data set 'svhn'",
        ),
    ],
)
def test_other_contents_are_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "best_model.pt")
    with pytest.raises(ValueError, match=message):
        read_published(tmp_path / "best_model.pt")


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no published model at .*best_model\.pt"):
        read_published(tmp_path / "best_model.pt")
    (tmp_path / "best_model.pt").write_bytes(b"not a zip file")
    with pytest.raises(ValueError, match="cannot be read as a published model"):
        read_published(tmp_path / "best_model.pt")
