"""pythae's own folders, written by pythae: the adapter's codes and images are pythae's."""

import json

import pytest
import torch

from geovae.adapters import Architecture, adopt, build_adopted, from_pythae, load_pythae
from geovae.adapters.pythae import REFUSED, USABLE
from geovae.codes import encode_images
from geovae.sampling import sample

models = pytest.importorskip("pythae.models")
nn = pytest.importorskip("pythae.models.nn")
SHAPE = (1, 11, 11)
IMAGES = torch.rand(30, *SHAPE, generator=torch.Generator().manual_seed(0))


def build(name, **parts):
    config = next(getattr(models, f"{name}{end}") for end in ("Config", "_Config") if hasattr(models, f"{name}{end}"))
    return getattr(models, name)(config(input_dim=SHAPE, latent_dim=3), **parts).eval()


# MS-SSIM wants larger images, and no other network
@pytest.mark.parametrize("name", [name for name in USABLE if name != "MSSSIM_VAE"])
def test_a_saved_model_is_the_same_here(name, tmp_path):
    model = build(name)
    model.save(str(tmp_path))
    adapter = load_pythae(tmp_path)
    codes = encode_images(adapter, IMAGES)
    with torch.no_grad():
        truth = model.encoder(IMAGES)
        torch.testing.assert_close(codes.mu, truth["embedding"])
        if "log_covariance" in truth:
            torch.testing.assert_close(codes.log_var, truth["log_covariance"])
        else:
            assert codes.log_var is None
        torch.testing.assert_close(adapter.decode(codes.mu), model.decoder(codes.mu)["reconstruction"])
    assert sample(adapter, IMAGES, n=5).shape == (5, *SHAPE)


@pytest.mark.parametrize("name", REFUSED)
def test_latents_that_are_no_codes_are_refused(name, tmp_path):
    config = next(getattr(models, f"{name}{end}") for end in ("Config", "_Config") if hasattr(models, f"{name}{end}"))
    config(input_dim=SHAPE, latent_dim=3).save_json(str(tmp_path), "model_config")
    (tmp_path / "model.pt").touch()
    with pytest.raises(ValueError, match=f"{name} cannot be sampled here: its"):
        load_pythae(tmp_path)


class Custom(nn.BaseEncoder):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(121, 6)

    def forward(self, x):
        mu, log_var = self.layer(x.flatten(1)).chunk(2, 1)
        return models.base.base_utils.ModelOutput(embedding=mu, log_covariance=log_var)


def test_a_pickled_encoder_is_not_loaded_but_built(tmp_path):
    model = build("VAE")
    model.set_encoder(Custom())
    torch.save({"model_state_dict": model.state_dict()}, tmp_path / "model.pt")
    config = {"name": "VAEConfig", "input_dim": SHAPE, "latent_dim": 3, "uses_default_encoder": False}
    (tmp_path / "model_config.json").write_text(json.dumps(config))
    (tmp_path / "encoder.pkl").write_bytes(b"never read")
    with pytest.raises(ValueError, match="pass `encoder=`"):
        load_pythae(tmp_path)
    codes = encode_images(load_pythae(tmp_path, encoder=Custom()), IMAGES)
    torch.testing.assert_close(codes.mu, encode_images(from_pythae(model), IMAGES).mu)
    adopted, described = adopt("pythae", tmp_path, Architecture(encoder=f"{__name__}:Custom"), IMAGES)
    again = build_adopted("pythae", described)
    again.load_state_dict(adopted.state_dict())
    for found in (adopted, again):
        torch.testing.assert_close(encode_images(found, IMAGES).mu, codes.mu)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of a pythae model: it has no model_config.json"):
        load_pythae(tmp_path)
    (tmp_path / "model.pt").touch()
    (tmp_path / "model_config.json").write_text('{"name": "AutoModelConfig"}')
    with pytest.raises(ValueError, match="got 'AutoModel'"):
        load_pythae(tmp_path)
