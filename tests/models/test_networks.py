"""The networks against the numbers that the paper's layer tables give, worked out by hand."""

import pytest
import torch

from geovae.models import build_model
from geovae.models.networks import NETWORKS, Decoder, Encoder

SHAPES = {
    "mlp": (1, 28, 28),
    "conv32": (3, 32, 32),
    "conv64": (3, 64, 64),
    "conv_oasis": (1, 208, 176),
    "conv3d": (11, 9, 16),
}
DIM = 16


def conv(inputs, outputs, kernel, norm=True):
    """Weights and biases of one (transposed) convolution, and the two vectors of its batch norm."""
    return inputs * outputs * kernel * kernel + outputs + (2 * outputs if norm else 0)


def cube(inputs, outputs, kernel=3, norm=True):
    """The same in three dimensions."""
    return inputs * outputs * kernel**3 + outputs + (2 * outputs if norm else 0)


def linear(inputs, outputs):
    return inputs * outputs + outputs


COUNTS = {
    "mlp": (
        linear(784, 1000) + linear(1000, 500) + 2 * linear(500, DIM),
        linear(DIM, 500) + linear(500, 1000) + linear(1000, 784),
    ),
    "conv32": (
        conv(3, 128, 4) + conv(128, 256, 4) + conv(256, 512, 4) + conv(512, 1024, 4) + 2 * linear(4096, DIM),
        linear(DIM, 65536) + conv(1024, 512, 4) + conv(512, 256, 4) + conv(256, 3, 4, norm=False),
    ),
    "conv64": (
        conv(3, 128, 5) + conv(128, 256, 5) + conv(256, 512, 5) + conv(512, 1024, 5) + 2 * linear(16384, DIM),
        linear(DIM, 65536) + conv(1024, 512, 5) + conv(512, 256, 5) + conv(256, 128, 5) + conv(128, 3, 5, norm=False),
    ),
    "conv_oasis": (
        conv(1, 64, 5, False)
        + conv(64, 128, 5, False)
        + conv(128, 256, 5, False)
        + conv(256, 512, 5, False)
        + conv(512, 1024, 5, False)
        + 2 * linear(16384, DIM),
        linear(DIM, 65536)
        + conv(1024, 512, 5, False)
        + conv(512, 256, 5, False)
        + conv(256, 128, 5, False)
        + conv(128, 64, 5, False)
        + conv(64, 1, 5, False),
    ),
    # 11 x 9 x 16 voxels halve, rounded up, to 6 5 8, 3 3 4, 2 2 2, 1 1 1
    "conv3d": (
        cube(1, 16) + cube(16, 32) + cube(32, 64) + cube(64, 128) + 2 * linear(128, DIM),
        linear(DIM, 128) + cube(128, 64, 4) + cube(64, 32, 4) + cube(32, 16, 4) + cube(16, 1, 4, norm=False),
    ),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_parameter_counts_at_the_papers_width(network):
    with torch.device("meta"):
        model = build_model("vae", SHAPES[network], network=network, latent_dim=DIM)
    counted = tuple(sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.decoder))
    assert counted == COUNTS[network]


@pytest.mark.parametrize("network", NETWORKS)
def test_images_go_in_and_come_out_with_their_own_shape(network, device):
    encoder = Encoder(network, SHAPES[network], 5, 4).to(device)
    decoder = Decoder(network, SHAPES[network], 5, 4).to(device)
    mu, log_var = encoder(torch.rand(2, *SHAPES[network], device=device))
    images = decoder(mu)
    assert mu.shape == log_var.shape == (2, 5)
    assert images.shape == (2, *SHAPES[network])
    assert images.min() >= 0
    assert images.max() <= 1


def test_the_brain_networks_log_variance_is_bounded_by_tanh():
    encoder = Encoder("conv_oasis", SHAPES["conv_oasis"], 3, 2)
    with torch.no_grad():
        encoder.heads[1].bias.fill_(50.0)
        mu, log_var = encoder(torch.rand(1, *SHAPES["conv_oasis"]))
    assert log_var.max() == 1.0
    assert mu.abs().max() < 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "conv33"}, "`network` must be one of mlp, conv32, conv64, conv_oasis, conv3d, got 'conv33'"),
        ({"latent_dim": 0}, "`latent_dim` must be at least 1, got 0"),
        ({"width": 0}, "`width` must be at least 1, got 0"),
        ({"network": "conv64"}, "network 'conv64' fits images of 64x64, got 32x32; use conv32 or mlp"),
        (
            {"network": "conv3d"},
            r"'conv3d' fits volumes \(x, y, z\) of at least 8 voxels .*, got \(1, 32, 32\); use mlp",
        ),
        ({"beta": -1.0}, "`beta` must be 0 or more and finite, got -1.0"),
        ({"beta": float("nan")}, "`beta` must be 0 or more and finite, got nan"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        build_model("vae", (1, 32, 32), **options)


def test_a_bad_image_shape_is_refused():
    with pytest.raises(ValueError, match=r"`image_shape` must be \(channels, height, width\), got \(32, 32\)"):
        build_model("vae", (32, 32))
