"""The shipped classifiers: their weights, what they know, and that their features rank what a person would rank."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from geovae.data.mnist_5k import read_all
from geovae.evaluation import extract, extractor, frechet
from geovae.evaluation.classifier import MnistNet

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist


@pytest.fixture(scope="module")
def digits():
    return read_all()


@pytest.fixture(scope="module")
def net():
    return extractor("mnist-net-v1")


@torch.no_grad()
def test_digits_that_it_has_not_seen_are_classified_rightly(digits, net):
    assert (net.classify(digits.images[::2]) == digits.labels[::2]).float().mean() > 0.99


@pytest.mark.skipif(not FASHION.exists(), reason="Debian's package dataset-fashion-mnist is not installed")
@torch.no_grad()
def test_the_test_images_of_fashion_mnist_are_classified_rightly():
    images, labels = (
        np.frombuffer(gzip.decompress((FASHION / f"t10k-{name}.gz").read_bytes()), np.uint8, offset=offset).copy()
        for name, offset in (("images-idx3-ubyte", 16), ("labels-idx1-ubyte", 8))
    )
    images = pad(torch.from_numpy(images).reshape(-1, 1, 28, 28), (2, 2, 2, 2))[:2000]
    guesses = extractor("fashion-mnist-net-v1").classify(images)
    assert (guesses == torch.from_numpy(labels[:2000])).float().mean() > 0.91


def test_features_are_nonnegative_and_say_which_weights_made_them(digits, net):
    features = extract(digits.images[:20], net)
    assert features.shape == (20, 256)
    assert (features >= 0).all()
    assert net.id == f"mnist-net-v1-{MnistNet.sha256[:12]}"


def test_a_set_of_one_class_is_further_from_real_digits_than_distorted_digits_of_all_classes(digits, net):
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    real, others = digits.images[order[:1500]], digits.images[order[1500:]]
    ones = others[digits.labels[order[1500:]] == 1]
    noisy = others[:1500].float() + 25 * torch.randn(others[:1500].shape, generator=torch.Generator().manual_seed(1))
    sets = {"same": others[:1500], "noisy": noisy.clamp(0, 255).to(torch.uint8), "ones": ones}
    real_features = extract(real, net)
    distances = {name: frechet(real=real_features, fake=extract(x, net))["frechet"] for name, x in sets.items()}
    assert distances["same"] < distances["noisy"] < distances["ones"] / 10


def test_other_weights_are_refused(monkeypatch):
    monkeypatch.setattr(MnistNet, "sha256", "0" * 64)
    with pytest.raises(ValueError, match=r"mnist-net-v1.safetensors is damaged: its SHA-256 is not 000000000000"):
        MnistNet()


def test_colour_images_are_refused(net):
    with pytest.raises(ValueError, match="mnist-net-v1 takes gray images, got 3 channels"):
        extract(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), net)
