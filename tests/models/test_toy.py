"""A learnt toy with two latent dimensions: a bright spot at a random place. And what VAMP does with images."""

import pytest
import torch
from torch import Generator

from geovae.codes import encode_images
from geovae.models import MODELS, build_model
from geovae.samplers import SAMPLERS
from geovae.training import Trainer

SIDE = 8


def spots(n, seed=0):
    """Return n images (n, 1, 8, 8) of a spot whose centre is uniform."""
    centre = 1.5 + (SIDE - 4) * torch.rand(n, 2, 1, 1, generator=Generator().manual_seed(seed))
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return (-((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / 2).exp().unsqueeze(1)


def squared_error(images, guess):
    return float((images - guess).square().flatten(1).sum(1).mean())


def learn(name, images, enough):
    """Return the model, trained until the error of held-out `images` is below `enough`, at most for its epochs."""
    toy = MODELS[name].toy
    model = build_model(name, (1, SIDE, SIDE), network="mlp", width=64, latent_dim=2, **toy.options)
    trainer = Trainer(epochs=toy.epochs, batch_size=50, learning_rate=toy.learning_rate)
    state = trainer.start(model)
    for record in trainer.run(state, spots(600), spots(100, seed=1)):
        if record.epoch % 5 == 0 and squared_error(images, reconstruct(model, images)) < enough:
            break
    return state.load_best()


@torch.no_grad()
def reconstruct(model, images):
    return model.decode(encode_images(model, images).mu)


@pytest.mark.parametrize("name", MODELS)
def test_two_latents_explain_held_out_spots(name):
    """Their error is well below that of the mean image, the best guess without latents; samplers can use the codes."""
    images = spots(200, seed=2)
    enough = MODELS[name].toy.error * squared_error(images, spots(600).mean(0))
    model = learn(name, images, 0.9 * enough)
    codes = encode_images(model, images)
    assert squared_error(images, reconstruct(model, images)) < enough
    own = [sampler for sampler in SAMPLERS.values() if set(sampler.needs) & set(codes.extras)]
    assert bool(own) == bool(codes.extras)
    for sampler in [SAMPLERS["mixture"], *own]:
        z = sampler().fit(codes).sample(20, Generator().manual_seed(0))
        assert z.shape == (20, 2)
        assert z.isfinite().all()


def test_vamp_prepares_its_pseudo_inputs_from_images():
    images = spots(30).mul(255).to(torch.uint8)
    for kind in ("learnt", "data"):
        model = build_model(
            "vamp", (1, SIDE, SIDE), network="mlp", width=8, n_pseudo_inputs=40, pseudo_inputs=kind, latent_dim=2
        )
        model.prepare(images, Generator().manual_seed(0))
        shown = (model.pseudo.sigmoid() if kind == "learnt" else model.pseudo).detach()
        expected = (images / 255).clamp(0.05, 0.95) if kind == "learnt" else images / 255
        distances = torch.cdist(shown.flatten(1), expected.flatten(1)).min(1)
        assert distances.values.max() < 1e-3
        assert len(distances.indices.unique()) == 30  # all of them, some twice
        assert isinstance(model.pseudo, torch.nn.Parameter) == (kind == "learnt")


def test_vamp_warms_up_in_training_only():
    model = build_model("vamp", (1, SIDE, SIDE), network="mlp", width=8, latent_dim=2, warm_up=4, beta=0.5)
    x = spots(5)
    for epoch, share in ((1, 0.25), (3, 0.75), (9, 1.0)):
        model.begin_epoch(epoch)
        for training, weight in ((True, 0.5 * share), (False, 0.5)):
            losses = model.train(training).loss(x, Generator().manual_seed(0))
            expected = losses["reconstruction"] + weight * losses["kl"]
            torch.testing.assert_close(losses["loss"], expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vamp", {"n_pseudo_inputs": 0}, "`n_pseudo_inputs` must be a whole number of at least 1, got 0"),
        ("vamp", {"warm_up": -1}, "`warm_up` must be a whole number of at least 0, got -1"),
        ("vamp", {"pseudo_inputs": "both"}, "`pseudo_inputs` must be one of learnt, data, got 'both'"),
        ("wae", {"mmd_weight": -1.0}, "`mmd_weight` must be 0 or more and finite, got -1.0"),
        ("wae", {"bandwidth": "mean"}, "`bandwidth` must be one of fixed, median, got 'mean'"),
        ("rae", {"embedding_weight": float("nan")}, "`embedding_weight` must be 0 or more and finite, got nan"),
        ("rae_l2", {"decay_weight": -1.0}, "`decay_weight` must be 0 or more and finite, got -1.0"),
        ("rae_gp", {"penalty_weight": -1.0}, "`penalty_weight` must be 0 or more and finite, got -1.0"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, (1, SIDE, SIDE), network="mlp", **options)
