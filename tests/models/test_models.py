"""The contract of every model, held over the registry.

A model is built from an image shape and keyword options; it encodes images in [0, 1] to codes (b, d), decodes latents
to images in [0, 1], and its `loss` is a dictionary of finite scalars whose `loss` gives every parameter a gradient.
Weights come from the seed alone, and survive a save and a load unchanged; so do the tensors of a model's own sampler.
What it records is declared in `losses`. Every option changes the result (tests/test_option_effects.py), and on toy
images what is learnt holds for new ones (test_toy.py).
"""

import pytest
import torch
from torch import Generator

from geovae.codes import Codes, encode_images
from geovae.models import MODELS, build_model
from geovae.saved_model import load_model, save_model
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
    x = torch.rand(4, *SHAPE)
    models = [build(name), build(name)]  # two: spectral normalisation moves on with every step
    before = torch.get_rng_state()
    losses = [model.loss(x, generator(seed=3))["loss"] for model in models]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(before, torch.get_rng_state())


def test_saved_and_loaded_models_agree_to_the_bit(name, tmp_path):
    model = build(name, network="conv32", width=2).eval()
    images = torch.rand(5, *SHAPE)
    codes = encode_images(model, images)
    options = {**OPTIONS, "network": "conv32", "width": 2}
    path = save_model(tmp_path / "m.safetensors", model, codes, name=name, options=options, image_shape=SHAPE)
    loaded = load_model(path)
    assert torch.equal(loaded.codes.mu, codes.mu)
    assert loaded.codes.extras.keys() == codes.extras.keys()
    assert all(torch.equal(loaded.codes.extras[key], codes.extras[key]) for key in codes.extras)
    assert torch.equal(loaded.model.decode(codes.mu), model.decode(codes.mu))


def test_mixed_precision_stays_close(name, device):
    """Sums, determinants and exponentials are taken in float32: bf16 changes a loss by a percent, not by its digits."""
    x = torch.rand(16, *SHAPE, device=device)
    full = build(name).to(device).loss(x, generator(device))["loss"].detach()
    with torch.autocast(device.type, torch.bfloat16):
        losses = build(name).to(device).loss(x, generator(device))
    assert all(value.dtype == torch.float32 for value in losses.values())
    torch.testing.assert_close(losses["loss"].detach(), full, rtol=0.02, atol=0)


def test_it_overfits_eight_images(name):
    blocks = torch.rand(8, 1, 4, 4, generator=generator()) > 0.5
    images = blocks.float().repeat_interleave(8, 2).repeat_interleave(8, 3)
    model = build(name, **{"width": 128, **MODELS[name].toy.overfit_options})
    trainer = Trainer(epochs=150, batch_size=8, learning_rate=3e-3, plateau_patience=30)
    before, state = squared_error(model, images), trainer.start(model)
    for record in trainer.run(state, images, images):
        if record.epoch % 10 == 0 and (error := squared_error(model, images)) < 0.1 * before:
            break
    assert error < 0.1 * before


@torch.no_grad()
def squared_error(model, images):
    """The same measure for every model, whatever its loss is."""
    model.eval()
    return float((model.decode(model.encode(images).mu) - images).square().sum())


def test_everything_that_is_recorded_is_declared(name):
    images = torch.rand(16, *SHAPE, generator=generator())
    trainer = Trainer(epochs=1, batch_size=8)
    (record,) = trainer.run(trainer.start(build(name)), images, images)
    assert set(record.train) == set(record.val) == set(MODELS[name].losses)


def test_codes_do_not_depend_on_the_batches(name):
    model, images = build(name).eval(), torch.randint(0, 256, (7, *SHAPE), dtype=torch.uint8)
    whole, parts = encode_images(model, images), encode_images(model, images, batch_size=2)
    assert isinstance(whole, Codes)
    torch.testing.assert_close(whole.mu, parts.mu)


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown model 'gan'; the models are vae, ae"):
        build_model("gan", SHAPE)
