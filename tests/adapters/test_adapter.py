"""Any module, any pair of callables and any file of weights: the same codes and images, and one clear error."""

import pytest
import torch
from torch import nn

import geovae
from geovae.adapters import adapt, load_weights
from geovae.codes import Codes

IMAGES = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_latents, self.to_images = nn.Linear(16, 8), nn.Linear(4, 16)
        self.dropout = nn.Dropout(0.5)

    def encode(self, x):
        return self.to_latents(self.dropout(x.flatten(1))).chunk(2, 1)

    def decode(self, z):
        return self.to_images(z).sigmoid().unflatten(1, (1, 4, 4))


def test_a_module_and_its_two_methods_are_one():
    model = Linear()
    images = geovae.sample(model, IMAGES, n=6)
    assert images.shape == (6, 1, 4, 4)
    assert images.dtype == torch.uint8
    assert torch.equal(images, geovae.sample((model.encode, model.decode), IMAGES, n=6))
    assert all(part.training for part in model.modules())  # dropout was off, and is on again


@pytest.mark.parametrize("sampler", ["prior", "mixture", "fine_mixture", "local", "riemannian"])
def test_every_sampler_draws(sampler):
    assert geovae.sample(Linear(), IMAGES, n=3, sampler=sampler).shape == (3, 1, 4, 4)


def test_images_of_the_identity_lie_at_the_images():
    """Latents in the shape of images: decoded draws around an image are near it."""
    drawn = geovae.sample((lambda x: x, lambda z: z), IMAGES, n=200, sampler="local", scale=1e-6)
    codes = IMAGES.mul(255).round().flatten(1)
    assert torch.cdist(drawn.flatten(1).float(), codes).min(1).values.max() <= 4  # a level in each of 16 pixels


def test_the_default_is_a_mixture_that_uses_labels_and_local_where_latents_are_large():
    model, labels = Linear(), torch.arange(40) % 2
    plain = geovae.sample(model, IMAGES, n=6)
    assert torch.equal(plain, geovae.sample(model, IMAGES, n=6, sampler="fine_mixture"))
    large = torch.randn(20, 201)
    assert torch.equal(geovae.sample(Codes(large), n=4), geovae.sample(Codes(large), n=4, sampler="local"))
    centres = torch.tensor([[-10.0, 0.0], [10.0, 0.0]])
    mu = centres.repeat(60, 1) + torch.randn(120, 2)
    shape = (120, 1, 1, 2)
    pair = (lambda x: x.flatten(1) * 40 - 20, lambda z: (z.unflatten(1, (1, 1, 2)) + 20) / 40)
    images = ((mu + 20) / 40).clamp(0, 1).view(shape)
    drawn = geovae.sample(pair, images, labels=torch.arange(120) % 2, n=200)[:, 0, 0, 0].float() / 255 * 40 - 20
    assert (drawn < 0).sum() == 100  # even over the classes, and no component between them
    assert drawn.abs().min() > 5
    with pytest.raises(ValueError, match=r"`labels` must have shape \(40,\)"):
        geovae.sample(model, IMAGES, labels=labels[:3], n=6)


def test_codes_give_latents():
    codes = Codes(torch.randn(50, 3), torch.full((50, 3), -3.0))
    assert geovae.sample(codes, n=7, sampler="riemannian").shape == (7, 3)


@pytest.mark.parametrize(
    ("source", "images", "match"),
    [
        (nn.Linear(2, 2), IMAGES, "must be a torch module with `encode` and `decode`"),
        (Linear(), None, "`images` is missing"),
        (Linear(), IMAGES * 255, "must lie in"),
        ((lambda x: "codes", lambda z: z), IMAGES, "one mean for each of the 40 images"),
        ((lambda x: (x, x[:, 0]), lambda z: z), IMAGES, "of the shape of the means"),
    ],
)
def test_bad_sources_are_refused(source, images, match):
    with pytest.raises(ValueError, match=match):
        geovae.sample(source, images)


def test_an_unknown_name_of_the_package():
    with pytest.raises(AttributeError, match="has no attribute 'sampel'"):
        _ = geovae.sampel


@pytest.mark.parametrize("nested", [False, True])
def test_weights_of_a_file(tmp_path, nested):
    stored = Linear()
    weights = {f"model.{key}": value for key, value in stored.state_dict().items()}
    # what Lightning's trainer writes beside the weights
    whole = {"epoch": 3, "pytorch-lightning_version": "2.5", "hyper_parameters": {"d": 4}, "state_dict": weights}
    torch.save(whole if nested else weights, tmp_path / "last.ckpt")
    loaded = load_weights(Linear(), tmp_path / "last.ckpt", prefix="model.")
    assert torch.equal(loaded.to_images.weight, stored.to_images.weight)
    assert not loaded.training
    with pytest.raises(ValueError, match="names begin with model.to_latents.weight.*`prefix`"):
        load_weights(Linear(), tmp_path / "last.ckpt")


class Payload:
    ran = False

    def __reduce__(self):
        return (setattr, (Payload, "ran", True))


def test_nothing_is_unpickled(tmp_path):
    torch.save({"state_dict": Linear().state_dict(), "hyper_parameters": Payload()}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="Nothing is unpickled here"):
        load_weights(Linear(), tmp_path / "a.ckpt")
    assert not Payload.ran
    torch.save({"epoch": 3}, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match="holds no state dict"):
        load_weights(Linear(), tmp_path / "b.ckpt")
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        load_weights(Linear(), tmp_path / "c.ckpt")


def test_an_adapter_stays_itself():
    adapter = adapt(Linear())
    assert adapt(adapter) is adapter
