"""Volumes of every size come back at their own size, and a small VAE of volumes learns them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geovae.images import to_float
from geovae.models import build_model, conv3d
from geovae.training import Trainer

side = st.integers(conv3d.SMALLEST, 25)


@settings(max_examples=25, deadline=None)
@given(shape=st.tuples(side, side, side))
def test_the_decoder_gives_back_the_exact_grid(shape):
    with torch.no_grad():
        volumes = conv3d.decoder(shape, 3, 1)(torch.zeros(2, 3))
        features = conv3d.body(shape, 1)[0](torch.zeros(2, *shape))
    assert volumes.shape == (2, 1, *shape)
    assert features.shape == (2, conv3d.body(shape, 1)[1])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_neighbours_along_every_axis_are_seen(axis):
    """A first-layer filter that differs along one axis only answers to an edge along it: no axis is a channel."""
    body, _ = conv3d.body((8, 8, 8), 1)
    first = body[1]
    kernel = torch.zeros(3, 3, 3)
    kernel.select(axis, 0).fill_(-1.0)
    kernel.select(axis, 2).fill_(1.0)
    with torch.no_grad():
        first.weight.copy_(kernel.expand_as(first.weight))
        first.bias.zero_()
        edge = torch.zeros(1, 8, 8, 8)
        edge.narrow(1 + axis, 4, 4).fill_(1.0)
        answer = first(body[0](edge))[0, 0]
    inner = answer.narrow(axis, 1, answer.shape[axis] - 1)  # without the padded border
    assert inner.abs().max() == 9.0
    assert inner.select(axis, 1).min() > 0
    assert inner.select(axis, -1).abs().max() < 9.0


def test_a_vae_of_volumes_learns_balls_of_two_sizes():
    grid = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, 9),) * 3, indexing="ij"))
    radius = torch.linspace(0.3, 0.9, 24)
    volumes = ((grid.norm(dim=0)[None] < radius[:, None, None, None]) * 255).to(torch.uint8)
    model = build_model("vae", (9, 9, 9), network="conv3d", width=8, latent_dim=2, beta=0.1)
    trainer = Trainer(epochs=120, batch_size=24, learning_rate=1e-2, plateau_patience=100)
    for record in trainer.run(trainer.start(model), volumes, volumes):
        last = record.val["reconstruction"]
    by_the_mean_volume = float(to_float(volumes).var(0, correction=0).sum())
    assert last < 0.3 * by_the_mean_volume
    with torch.no_grad():
        back = model.eval().decode(model.encode(to_float(volumes)).mu)
    filled = back.flatten(1).mean(1)
    assert torch.corrcoef(torch.stack([filled, radius**3]))[0, 1] > 0.95
