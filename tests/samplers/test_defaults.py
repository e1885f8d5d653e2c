"""The samplers with their defaults on a model that was trained on real digits, judged by a classifier of digits."""

import pytest
import torch
from torch import Tensor

from geovae.codes import Codes
from geovae.evaluation import extract, extractor, frechet
from geovae.evaluation.classifier import class_shares
from geovae.samplers import SAMPLERS
from geovae.saved_model import SavedModel, load_model

FOLLOWING = [name for name, member in SAMPLERS.items() if member.follows_codes and not member.needs]
DRAWN = 1000


@pytest.fixture(scope="module")
def saved(trained_vae) -> SavedModel:
    return load_model(trained_vae)


@pytest.fixture(scope="module")
def network():
    return extractor("mnist-net-v1")


@pytest.fixture(scope="module")
def real(saved, network) -> Tensor:
    """The features of the test images, which neither model nor samplers have seen."""
    return extract(saved.splits().test.images, network)


@pytest.fixture(scope="module")
def judge(saved, network, real):
    def scores(z: Tensor) -> tuple[float, float]:
        features = extract(saved.decode(z), network)
        shares = class_shares(network, real, features)["class_share_distance"]
        return frechet(real=real, fake=features)["frechet"], shares

    return scores


@pytest.fixture(scope="module")
def of_prior(saved, judge) -> tuple[float, float]:
    return judge(SAMPLERS["prior"]().fit(saved.codes).sample(DRAWN, torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def of_codes(saved, judge) -> tuple[float, float]:
    """What this small decoder can reach: its distance is some 80, and its blur takes two fifths for another digit."""
    return judge(saved.codes.mu)


@pytest.mark.parametrize("name", FOLLOWING)
def test_every_default_beats_the_prior_and_draws_every_class(saved, judge, of_prior, of_codes, name):
    z = SAMPLERS[name]().fit(saved.codes).sample(DRAWN, torch.Generator().manual_seed(0))
    distance, shares = judge(z)
    assert distance < 0.7 * of_prior[0]
    assert shares < min(of_codes[1] + 0.1, of_prior[1])


def test_the_shares_see_a_sampler_that_draws_one_class(saved, judge, of_codes):
    ones = saved.codes.labels == 1
    sampler = SAMPLERS["local"]().fit(Codes(saved.codes.mu[ones]))
    assert judge(sampler.sample(DRAWN, torch.Generator().manual_seed(0)))[1] > of_codes[1] + 0.3
