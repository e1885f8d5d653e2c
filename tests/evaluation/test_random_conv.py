"""random-conv-v1 is the same network everywhere and for good, and orders distortions of real digits."""

import hashlib

import pytest
import torch
from torch.nn import functional

from geovae.evaluation import extract, extractor, frechet, kid

WEIGHTS = {0: "123d68ad66f155b4", 1: "2f81479169931615", 2: "36eeb20ffcc07890"}


def ramp(channels):
    """An image without randomness: (2, c, 12, 10), values k / 255."""
    levels = torch.arange(2 * channels * 120).mul(37).remainder(256).to(torch.uint8)
    return levels.reshape(2, channels, 12, 10)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_weights_are_pinned_to_the_byte(seed):
    digest = hashlib.sha256()
    for name, value in sorted(extractor("random-conv-v1", seed=seed).state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    assert digest.hexdigest()[:16] == WEIGHTS[seed]


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (1, [1.691597, 0.262208, 0.112647, 0.0, 0.454171, 0.087964]),
        (3, [1.768019, 1.170563, 1.272169, 1.895476, 0.510159, 0.739962]),
    ],
)
def test_features_are_pinned_to_rounding(channels, expected, device):
    features = extract(ramp(channels), extractor("random-conv-v1"), device=device)
    assert features.shape == (2, 608)
    torch.testing.assert_close(features[0, [0, 40, 100, 300, 500, 607]], torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_weights_have_the_right_moments():
    network = extractor("random-conv-v1", seed=5)
    weights = network.stage_2
    assert float(weights.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(weights.var() * weights[0].numel()) == pytest.approx(2.0, rel=0.02)
    assert float(weights.sum(dim=(1, 2, 3)).abs().max()) < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (28, 28), (208, 176)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(size, channels, generator):
    features = extract(torch.rand(2, channels, *size, generator=generator), extractor("random-conv-v1"))
    assert features.shape == (2, 608)


def test_seeds_differ():
    first, second = (extract(ramp(1), extractor("random-conv-v1", seed=seed)) for seed in (0, 1))
    assert float((first - second).abs().mean()) > 0.01
    assert extractor("random-conv-v1", seed=1).id == "random-conv-v1-seed1"


def test_bad_input():
    with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
        extract(torch.zeros(1, 2, 8, 8), extractor("random-conv-v1"))
    with pytest.raises(ValueError, match="`seed` must not be negative, got -1"):
        extractor("random-conv-v1", seed=-1)


@pytest.fixture(scope="module")
def digits():
    """Two sets of scikit-learn's digits as (300, 1, 32, 32), and the labels of the second one."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = functional.interpolate(torch.from_numpy(found.images / 16).float()[:, None], size=32, mode="bilinear")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[:300]], images[order[300:600]], torch.from_numpy(found.target)[order[300:600]]


def noisy(images, labels, level, generator):
    return (images + 0.2 * level * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def blurred(images, labels, level, generator):
    for _ in range(int(8 * level)):
        images = functional.avg_pool2d(images, 3, 1, 1)
    return images


def without_classes(images, labels, level, generator):
    kept = images[labels >= 8 * level]
    return kept[torch.arange(len(images)) % len(kept)]


def shuffled_quadrants(images, labels, level, generator):
    chosen = torch.rand(len(images), generator=generator) < level
    return torch.where(chosen[:, None, None, None], images.roll((16, 16), dims=(2, 3)), images)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("distort", [noisy, blurred, without_classes, shuffled_quadrants])
def test_scores_grow_with_every_distortion(distort, seed, digits, generator):
    real, other, labels = digits
    network = extractor("random-conv-v1", seed=seed)
    features = extract(real, network)
    distances, kids = [], []
    for level in (0.0, 0.4, 1.0):
        distorted = extract(distort(other, labels, level, generator), network)
        distances.append(frechet(real=features, fake=distorted)["frechet"])
        kids.append(kid(real=features, fake=distorted)["kid"])
    assert distances == sorted(distances)
    assert distances[1] > 1.1 * distances[0]
    assert kids == sorted(kids)
