"""Shares of classes: by hand, and that a sampler of one class is found."""

import pytest
import torch

from geovae.data.mnist_5k import read_all
from geovae.evaluation import ImageSets, Scorer, evaluate, extract, extractor
from geovae.evaluation.classifier import Classifier, ClassifierFeatures, class_shares

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Three(ClassifierFeatures):
    """Classes of three features: the largest one."""

    def __init__(self):
        super().__init__()
        self.network = Classifier(3)
        self.network.head = torch.nn.Linear(3, 3, bias=False)
        self.network.head.weight.data = torch.eye(3)


def test_total_variation_by_hand():
    """Shares 1/2, 1/4, 1/4 against 0, 1, 0: three quarters would have to change class."""
    real, fake = torch.eye(3)[[0, 0, 1, 2]], torch.eye(3)[[1, 1]]
    assert class_shares(Three(), real, fake) == {"class_share_distance": 0.75}
    assert class_shares(Three(), real, real) == {"class_share_distance": 0.0}


@torch.no_grad()
def test_a_sampler_of_ones_only_is_found():
    data = read_all()
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))[:1400]
    real, other, ones = data[order[:600]], data[order[600:1200]], data.images[data.labels == 1][:300]
    scorer = Scorer("mnist-net-v1", scores=["frechet"])
    same = evaluate(ImageSets(real.images, other.images, other_real=data[order[1200:]].images), scorer).values
    of_ones = evaluate(ImageSets(real.images, ones), scorer).values
    share_of_ones = float((real.labels == 1).double().mean())
    assert of_ones["class_share_distance"] == pytest.approx(1 - share_of_ones, abs=0.02)
    assert same["class_share_distance"] < 0.1
    assert same["real_class_share_distance"] < 0.2
    assert 0 < same["class_share_distance_sd"] < 0.1
    net = extractor("mnist-net-v1")
    assert torch.equal(net.classes(extract(real.images[:50], net)), net.classify(real.images[:50]))
