"""Models from elsewhere through the entry point, into a real store: scored, kept, registered, and drawn from."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.serving import post, served
from geovae.adapters import adapt
from geovae.adapters.diffusers import autoencoder_kl
from geovae.codes import encode_images
from geovae.data import DATASETS
from geovae.saved_model import load_model
from mlflow_projects import adopt, entry, generate, sweep

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of small sample sizes

PAGE = Path(__file__).parents[2] / "docs/tutorials/elsewhere.md"
ENTRIES = {"adopt": adopt, "generate": generate}
QUICK = ["--extractor=pixels", "--n_samples=40", "--samplers=prior,mixture", "--scores=frechet"]
CODE = """
from torch import nn


class Mine(nn.Module):
    def __init__(self, d=2):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(1024, 2 * d), nn.Linear(d, 1024)

    def encode(self, x):
        return self.encoder(x.flatten(1)).chunk(2, dim=1)

    def decode(self, z):
        return self.decoder(z).sigmoid().unflatten(1, (1, 32, 32))
"""


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A `Mine` whose class is a user's file, and last.ckpt with its weights as Lightning stores them."""
    (tmp_path / "user").mkdir()
    (tmp_path / "user/mine.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path / "user")
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    made = __import__("mine").Mine(d=3)
    state = {f"model.{name}": value for name, value in made.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": {"d": 3}}, tmp_path / "last.ckpt")
    yield made
    sys.modules.pop("mine", None)


WEIGHTS = ["--path=last.ckpt", "--kind=weights", "--module=mine:Mine", '--arguments={"d": 3}', "--prefix=model."]


def only_run(client):
    (experiment,) = client.search_experiments(filter_string="name = 'geovae'")
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def test_weights_with_a_class_become_a_run_and_a_registered_model(client, network, capsys, monkeypatch):
    entry.call(adopt.main, [*WEIGHTS, "--dataset=digits", "--register=mine", *QUICK])
    said, run = capsys.readouterr().out, only_run(client)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "weights-digits-s0"
    assert {"score/prior/fd_pixels", "score/mixture/fd_pixels", "best/fd_pixels"} <= run.data.metrics.keys()
    assert run.data.params["cfg.model.module"] == "mine:Mine"
    assert not [name for name in run.data.params if name.startswith("cfg.training")]
    assert run.data.tags["imported_from"] == "last.ckpt"
    assert "the mean image is nearer" in run.data.tags["warning.model"]  # its weights are random
    assert "Registered as mine version 1." in said
    assert "models:/mine@champion" in said
    saved = load_model(client.download_artifacts(run.info.run_id, "model/model.safetensors"))
    assert torch.equal(saved.codes.mu, encode_images(adapt(network), saved.splits().train.images).mu)

    entry.call(generate.main, ["--model=models:/mine@champion", "--n=2"])
    for name in ("mine", "mlflow_projects.registry.registered_model"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if not folder.endswith("user")])
    drawn = mlflow.pyfunc.load_model("models:/mine@champion").predict(None, params={"n": 3})
    assert drawn.shape == (3, 32, 32, 1)
    assert "user" not in sys.modules["mine"].__file__  # the version carries the code of the class

    with pytest.raises(ValueError, match=r"a model from elsewhere \(weights\): a sweep draws from models of ours"):
        entry.call(sweep.main, ["--space=sampler_mixture", f"--trained={run.info.run_id}"])


@pytest.mark.slow
def test_a_version_of_weights_with_a_class_is_served(client, network):
    entry.call(adopt.main, [*WEIGHTS, "--dataset=digits", "--register=mine", *QUICK])
    with served("models:/mine@champion", mlflow.get_tracking_uri()) as (address, _):
        status, answer = post(address, {"inputs": [], "params": {"n": 2}})
    assert status == 200
    assert np.array(answer["predictions"]).shape == (2, 32, 32, 1)


def test_a_folder_of_pythae_becomes_a_run(client):
    models = pytest.importorskip("pythae.models")
    config = models.VAEConfig(input_dim=(1, 28, 28), latent_dim=3)
    model = models.VAE(config).eval()
    model.save("final_model")
    flags = ["--path=final_model", "--kind=pythae", "--dataset=mnist_5k", "--data.train_size=200", "--margin=2"]
    entry.call(adopt.main, [*flags, *QUICK, "--register=mine"])
    run = only_run(client)
    assert run.data.params["cfg.model.config.name"] == "VAEConfig"
    saved = load_model(client.download_artifacts(run.info.run_id, "model/model.safetensors"))
    images = DATASETS["mnist_5k"](train_size=200).train.images
    with torch.no_grad():
        truth = model.encoder(images[..., 2:-2, 2:-2].float() / 255)["embedding"]
    torch.testing.assert_close(saved.codes.mu, truth)
    assert "pythae==" in mlflow.artifacts.load_text("models:/mine/1/requirements.txt")


def test_a_folder_of_diffusers_becomes_a_run(client, tmp_path):
    pytest.importorskip("diffusers")
    vae = autoencoder_kl()(block_out_channels=(8,), norm_num_groups=4, latent_channels=1).eval()
    vae.save_pretrained("vae")
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.savez("colour.npz", x_train=images)
    flags = ["--path=vae", "--kind=diffusers", "--dataset=folder", f"--data.root={tmp_path}", "--data.path=colour.npz"]
    entry.call(adopt.main, [*flags, *QUICK[:1], "--n_samples=40", "--samplers=prior", "--scores=frechet"])
    saved = load_model(client.download_artifacts(only_run(client).info.run_id, "model/model.safetensors"))
    x = saved.splits().train.images
    with torch.no_grad():
        truth = vae.encode(x.float() / 127.5 - 1).latent_dist.mean
    torch.testing.assert_close(saved.codes.mu, truth.flatten(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--kind=onnx"], "`kind` must be one of pythae, diffusers, weights, got 'onnx'"),
        (["--kind=weights", "--module=torch.nn:Linear"], "`module` must name a torch module with encode and decode"),
        (["--arguments={}"], "the weights in last.ckpt are not those of this Mine: Error(s) in loading state_dict"),
        (["--kind=pythae"], "last.ckpt is no folder of a pythae model: it has no model_config.json"),
        (["--kind=diffusers"], "last.ckpt is no folder of an AutoencoderKL: expected config.json"),
        (["--training.epochs=3"], "`training.epochs` has no meaning for a model that is trained already"),
        (["--model=vae"], "`model.name` has no meaning for a model that is trained already"),
        (["--samplers=rhvae"], "sampler 'rhvae' needs the model's own metric, which model 'weights' does not have"),
        (["--path=pickled.pt"], "pickled.pt holds more than tensors, or is damaged. Nothing is unpickled"),
        (["--arguments=[3]"], "`arguments` must be"),
        (["--dataset=cifar"], "does not exist"),
    ],
)
def test_bad_input_is_one_sentence_before_a_run_is_made(client, network, flags, sentence):
    torch.save(nn.Linear(2, 2), "pickled.pt")
    names = [flag.partition("=")[0] for flag in flags]
    kept = [flag for flag in [*WEIGHTS, "--dataset=digits"] if flag.partition("=")[0] not in names]
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        entry.call(adopt.main, [*kept, *flags])
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not client.search_experiments(filter_string="name = 'geovae'")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*model.*:FutureWarning")
def test_the_commands_of_the_tutorial_run(client, tmp_path, monkeypatch, torchvision_or_none):
    """Each as pasted, in the folder that the Python blocks above it have filled; the first of them is mine.py."""
    for package in ("pythae.models", "diffusers"):
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    Path("mine.py").write_text(blocks[0][1])
    space, ran = {}, []
    for language, block in blocks:
        if language == "python":
            exec(compile(block, str(PAGE), "exec"), space)
            continue
        for command in block.replace("\\\n", "").splitlines():
            name, given = re.fullmatch(r"mlflow run \. .*? -e (\w+) (.*)", command).groups()
            flags = [f"--{word}" for word in shlex.split(given) if word != "-P"]
            entry.call(ENTRIES[name].main, [*flags, *(QUICK[:2] if name == "adopt" else [])])
            ran.append(name)
    assert ran == ["adopt", "generate", "adopt", "adopt"]
    assert len(list(tmp_path.glob("generated/*.png"))) == 16
