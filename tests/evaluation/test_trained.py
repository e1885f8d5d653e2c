"""Classifiers trained on demand: what they learn, that their name is their data, and that the cache is used."""

import pytest
import torch

from geovae.data import DATASETS
from geovae.evaluation import choose_extractor, extract, extractor, headline, trained, trained_classifier, trained_name


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def shapes():
    """Rings and discs (n, 1, 32, 32), which a network tells apart after few steps."""
    return DATASETS["rings_discs"](n=300)


def test_images_that_it_has_not_seen_are_classified_rightly(shapes):
    net = trained_classifier(shapes.train.images, shapes.train.labels)
    assert (net.classify(shapes.test.images) == shapes.test.labels).float().mean() > 0.95
    assert extract(shapes.test.images, net).shape == (len(shapes.test), 128)


def test_the_cache_is_used_and_a_damaged_file_made_again(shapes, monkeypatch):
    monkeypatch.setattr(trained, "STEPS", (2, 2))
    calls = []
    monkeypatch.setattr(trained, "train", lambda *a, train=trained.train: calls.append(1) or train(*a))
    first = trained_classifier(shapes.train.images, shapes.train.labels)
    again = trained_classifier(shapes.train.images, shapes.train.labels)
    by_name = extractor(first.name)
    assert (first.id, first.name) == (again.id, by_name.name)
    assert len(calls) == 1
    torch.testing.assert_close(extract(shapes.test.images, by_name), extract(shapes.test.images, first))
    trained.weights_path(first.name).write_bytes(b"x")
    with pytest.warns(UserWarning, match="trained an extractor again: .* is damaged"):
        restored = trained_classifier(shapes.train.images, shapes.train.labels)
    assert restored.id == first.id, "the same seed gives the same weights"


def test_the_name_is_that_of_images_labels_and_recipe(shapes, monkeypatch):
    images, labels = shapes.train.images, shapes.train.labels
    names = [trained_name(images, labels), trained_name(255 - images, labels), trained_name(images, 1 - labels)]
    assert len(set(names)) == 3
    assert choose_extractor(names[0]) == names[0]
    assert headline(names[0]) == f"fd_{names[0]}"
    monkeypatch.setattr(trained, "RECIPE", "v2")
    assert trained_name(images, labels) not in names


def test_labels_that_do_not_do(shapes):
    images, labels = shapes.train.images, shapes.train.labels
    assert trained_name(images, None) is None
    assert trained_name(images, torch.zeros_like(labels)) is None
    assert trained_name(images, torch.arange(len(labels))) is None, "a class an image"
    few = torch.where(torch.arange(len(labels)) < 9, 1, -1)  # nine of one class, the others unlabelled
    assert trained_name(images, few) is None
    with pytest.raises(ValueError, match="`labels` must name at least two classes of 10 images each"):
        trained_classifier(images, few)


def test_large_small_and_colour_images_fit(monkeypatch, generator):
    monkeypatch.setattr(trained, "STEPS", (2, 2))
    for shape in ((3, 8, 8), (1, 100, 70)):
        images = torch.randint(0, 256, (40, *shape), dtype=torch.uint8, generator=generator)
        net = trained_classifier(images, torch.arange(40) % 3 - 1)
        assert extract(images, net).shape == (40, 128)
    with pytest.raises(ValueError, match=f"{net.name} takes images of 1 channels, got 3"):
        extract(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), net)


def test_weights_that_are_not_there():
    with pytest.raises(FileNotFoundError, match="no weights of the extractor net-00000000 at .*give the data"):
        extractor("net-00000000")
