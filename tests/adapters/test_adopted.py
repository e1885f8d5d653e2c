"""Descriptions of models from elsewhere: they come back from a model file as they were, and nothing else is built."""

import json

import pytest
import torch
from torch import nn

from geovae.adapters import Architecture, adopt, build_adopted
from geovae.checkpoint import load, save
from geovae.codes import encode_images
from geovae.saved_model import load_model, save_model

IMAGES = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Tied(nn.Module):
    """Linear, with the decoder's weight that of the encoder: two names of one tensor."""

    def __init__(self, side=8):
        super().__init__()
        self.side, self.encoder, self.decoder = side, nn.Linear(side**2, 3), nn.Linear(3, side**2)
        self.again = self.encoder

    def encode(self, x):
        return self.again(x.flatten(1)).unflatten(1, (3, 1))

    def decode(self, z):
        return self.decoder(z.flatten(1)).sigmoid().unflatten(1, (1, self.side, self.side))


TIED = f"{__name__}:Tied"


@pytest.fixture
def file(tmp_path):
    """What Lightning writes of a module that holds a `Tied` as `self.net`, without its pickled parts."""
    state = {f"net.{name}": value for name, value in Tied().state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def keep(path, model, described, **changes):
    options = described | changes
    return save_model(
        path, model, encode_images(model, IMAGES), name="weights", options=options, image_shape=IMAGES.shape[1:]
    )


def test_a_model_comes_back_from_a_model_file(file, tmp_path):
    model, described = adopt("weights", file, Architecture(module=TIED, prefix="net."), IMAGES)
    assert json.loads(json.dumps(described)) == described
    before = torch.get_rng_state()
    saved = load_model(keep(tmp_path / "model.safetensors", model, described))
    assert torch.equal(torch.get_rng_state(), before)
    codes = saved.encode(IMAGES)
    assert codes.mu.shape == (30, 3)
    assert torch.equal(codes.mu, encode_images(model, IMAGES).mu)
    torch.testing.assert_close(saved.model.decode(codes.mu), model.decode(codes.mu))


def test_the_description_tells_two_trainings_apart(file, tmp_path):
    one, again = (adopt("weights", file, Architecture(module=TIED, prefix="net."), IMAGES)[1] for _ in range(2))
    torch.save(Tied().state_dict(), tmp_path / "other.pt")
    other = adopt("weights", tmp_path / "other.pt", Architecture(module=TIED), IMAGES)[1]
    assert one == again
    assert one | {"weights": ""} == other | {"weights": ""}
    assert one["weights"] != other["weights"]


def test_a_margin_is_cut_from_images_and_put_around_them(tmp_path):
    network = Tied(side=4)
    torch.save(network.state_dict(), tmp_path / "m.pt")
    architecture = Architecture(module=TIED, arguments={"side": 4}, margin=2)
    model, described = adopt("weights", tmp_path / "m.pt", architecture, IMAGES)
    inner = IMAGES[..., 2:-2, 2:-2]
    torch.testing.assert_close(encode_images(model, IMAGES).mu, network.encode(inner).flatten(1).detach())
    images = load_model(keep(tmp_path / "m.safetensors", model, described)).decode(torch.zeros(2, 3))
    assert images.shape == (2, 1, 8, 8)
    assert not images[..., :2, :].any()
    assert images[..., 2:-2, 2:-2].all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"module": ""}, "weights alone do not say what network they belong to"),
        ({"module": "nowhere:Model"}, "'nowhere:Model' cannot be imported: No module named 'nowhere'; PYTHONPATH"),
        ({"module": "Tied"}, "`module` must read 'package.module:Class', got 'Tied'"),
        ({"module": "torch.nn:Linear"}, "`module` must name a torch module with encode and decode"),
        ({"arguments": {"width": 3}}, "`arguments` must be those of .*Tied: .*unexpected keyword"),
        ({"arguments": {"side": 9}}, "the weights in .* are not those of this Tied"),
        ({"prefix": ""}, "`prefix` .* chooses and shortens them"),
        ({"margin": 1}, r"the model does not take images of shape \(1, 8, 8\): .*; see `margin`"),
        ({"margin": -1}, "`margin` must be a whole number of at least 0, got -1"),
    ],
)
def test_what_does_not_fit_is_one_sentence(file, changes, sentence):
    architecture = Architecture(**{"module": TIED, "prefix": "net.", **changes})
    with pytest.raises(ValueError, match=sentence):
        adopt("weights", file, architecture, IMAGES)


@pytest.mark.parametrize("target", ["os:system", "geovae.evaluation.extractors:UserModule", "builtins:exec"])
def test_a_model_file_cannot_choose_what_is_called(file, target, tmp_path):
    """`UserModule` would call what its own arguments name."""
    model, described = adopt("weights", file, Architecture(module=TIED, prefix="net."), IMAGES)
    harm = {"module": target, "arguments": {"target": "os:mkdir", "options": {"path": str(tmp_path / "harm")}}}
    path = keep(tmp_path / "model.safetensors", model, described, **harm)
    with pytest.raises(ValueError, match="must name a torch module with encode and decode, got"):
        load_model(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "changes", [{"margin": None}, {"latent_shape": 3}, {"arguments": []}, {"config": "x"}, {"module": 3}]
)
def test_a_damaged_description_is_one_sentence(file, changes, tmp_path):
    model, described = adopt("weights", file, Architecture(module=TIED, prefix="net."), IMAGES)
    tensors, meta = load(keep(tmp_path / "model.safetensors", model, described))
    meta["options"] |= changes
    with pytest.raises(ValueError, match="the description of the model must hold"):
        load_model(save(tmp_path / "bad.safetensors", tensors, meta))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pythae.models", None)
    with pytest.raises(ValueError, match="a model of pythae needs more packages: .*; pip install"):
        build_adopted("pythae", {"margin": 0, "latent_shape": [2], "config": {"name": "VAEConfig"}})
