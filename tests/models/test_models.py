"""The contract of every model, held over the registry.

A model is built from an image shape and keyword options; it encodes images in [0, 1] to codes (b, d), decodes latents
to images in [0, 1], and its `loss` is a dictionary of finite scalars whose `loss` gives every parameter a gradient.
Weights come from the seed alone, and survive a save and a load unchanged.
"""

import numpy as np
import pytest
import torch
from torch import Generator

from geovae import checkpoint
from geovae.codes import Codes, encode_images
from geovae.models import MODELS, build_model
from geovae.training import Trainer

SHAPE = (1, 32, 32)
OPTIONS = {"network": "mlp", "width": 32, "latent_dim": 4}


def build(name, **options):
    return build_model(name, SHAPE, **{**OPTIONS, **options})


def generator(device="cpu", seed=0):
    return Generator(device).manual_seed(seed)


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


def test_codes_and_images_have_their_shapes(name, device):
    model = build(name).to(device).eval()
    codes = model.encode(torch.rand(3, *SHAPE, device=device))
    assert codes.mu.shape == (3, 4)
    assert codes.log_var is None or codes.log_var.shape == (3, 4)
    images = model.decode(codes.mu)
    assert images.shape == (3, *SHAPE)
    assert 0 <= images.min() <= images.max() <= 1


@pytest.mark.parametrize(("network", "width"), [("mlp", 32), ("conv32", 4)])
def test_the_loss_is_finite_and_reaches_every_parameter(name, network, width, device):
    model = build(name, network=network, width=width).to(device)
    losses = model.loss(torch.rand(8, *SHAPE, device=device), generator(device))
    assert all(value.ndim == 0 and value.isfinite() for value in losses.values())
    losses["loss"].backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


def test_weights_come_from_the_seed_and_the_global_state_is_kept(name):
    before = torch.get_rng_state()
    first, again, other = build(name, seed=1), build(name, seed=1), build(name, seed=2)
    assert torch.equal(before, torch.get_rng_state())
    pairs = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_the_loss_draws_from_its_generator_alone(name):
    model, x = build(name), torch.rand(4, *SHAPE)
    before = torch.get_rng_state()
    losses = [model.loss(x, generator(seed=3))["loss"] for _ in range(2)]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(before, torch.get_rng_state())


def test_saved_and_loaded_models_agree_to_the_bit(name, tmp_path):
    model = build(name, network="conv32", width=2).eval()
    images = torch.rand(5, *SHAPE)
    codes = encode_images(model, images)
    options = {**OPTIONS, "network": "conv32", "width": 2}
    path = checkpoint.save_model(
        tmp_path / "m.safetensors", model, codes, name=name, options=options, image_shape=SHAPE
    )
    loaded = checkpoint.load_model(path)
    assert torch.equal(loaded.codes.mu, codes.mu)
    assert torch.equal(loaded.model.decode(codes.mu), model.decode(codes.mu))


def test_it_overfits_eight_images(name):
    images = (
        (torch.rand(8, 1, 4, 4, generator=generator()) > 0.5).float().repeat_interleave(8, 2).repeat_interleave(8, 3)
    )
    model = build(name, width=128)
    state = Trainer(epochs=150, batch_size=8, learning_rate=3e-3, plateau_patience=30).start(model)
    records = list(Trainer(epochs=150, batch_size=8, learning_rate=3e-3).run(state, images, images))
    error = "reconstruction" if "reconstruction" in records[0].train else "loss"
    assert records[-1].train[error] < 0.1 * records[0].train[error]


def test_ae_loss_is_the_squared_error():
    model, x = build("ae"), torch.rand(6, *SHAPE)
    x_hat = model.decode(model.encode(x).mu).detach().double().numpy()
    expected = ((x.double().numpy() - x_hat) ** 2).reshape(6, -1).sum(1).mean()
    assert float(model.loss(x, generator())["loss"].detach()) == pytest.approx(expected, rel=1e-5)


def test_vae_loss_is_equation_3():
    model, x = build("vae", beta=0.3), torch.rand(6, *SHAPE)
    losses = model.loss(x, generator(seed=5))
    mu, log_var = (t.detach().double().numpy() for t in model.encode(x))
    noise = torch.randn(6, 4, generator=generator(seed=5)).double().numpy()
    z = mu + np.exp(log_var / 2) * noise
    x_hat = model.decode(torch.from_numpy(z).float()).detach().double().numpy()
    squared = ((x.double().numpy() - x_hat) ** 2).reshape(6, -1).sum(1).mean()
    # KL(N(mu, s^2) || N(0, 1)) = log(1/s) + (s^2 + mu^2)/2 - 1/2, dimension by dimension
    sd = np.exp(log_var / 2)
    divergence = (np.log(1 / sd) + (sd**2 + mu**2) / 2 - 0.5).sum(1).mean()
    assert float(losses["kl"].detach()) == pytest.approx(divergence, rel=1e-5)
    assert float(losses["loss"].detach()) == pytest.approx(squared + 0.3 * divergence, rel=1e-5)


def test_codes_do_not_depend_on_the_batches(name):
    model, images = build(name).eval(), torch.randint(0, 256, (7, *SHAPE), dtype=torch.uint8)
    whole, parts = encode_images(model, images), encode_images(model, images, batch_size=2)
    assert isinstance(whole, Codes)
    torch.testing.assert_close(whole.mu, parts.mu)


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown model 'gan'; the models are vae, ae"):
        build_model("gan", SHAPE)
