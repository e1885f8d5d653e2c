"""Drawing one class: a sampler that is fitted on the codes of that class alone."""

from dataclasses import replace

import pytest
import torch

import geovae
from geovae.codes import Codes
from geovae.evaluation.extractors import extractor
from geovae.samplers import fit_sampler
from geovae.saved_model import load_model

LABELS = torch.arange(60) % 3
CODES = Codes(torch.randn(60, 2) + 100 * LABELS[:, None], torch.zeros(60, 2), labels=LABELS)


def draw(sampler, n=50):
    return sampler.sample(n, torch.Generator().manual_seed(0))


def test_the_codes_of_a_class_keep_all_that_belongs_to_them():
    codes = replace(CODES, held_out=CODES.mu[:30] + 1, held_out_labels=LABELS[:30], extras={"a": torch.zeros(1)})
    ones = codes.of_class(1)
    for found, whole in ((ones.mu, codes.mu), (ones.log_var, codes.log_var), (ones.labels, LABELS)):
        assert torch.equal(found, whole[1::3])
    assert torch.equal(ones.held_out, codes.mu[1:30:3] + 1)
    assert torch.equal(ones.held_out_labels, LABELS[1:30:3])
    assert ones.extras == codes.extras
    without = replace(codes, held_out_labels=None).of_class(1)  # others would be taken for how far new data lie
    assert without.held_out is None
    assert replace(codes, log_var=None).of_class(1).log_var is None


@pytest.mark.parametrize("name", ["mixture", "fine_mixture", "local", "riemannian"])
def test_a_sampler_of_codes_draws_the_class_that_is_asked_for(name):
    options = {"n_centroids": 10} if name == "riemannian" else {"n_components": 2} if name == "mixture" else {}
    z = draw(fit_sampler(name, CODES, label=2, **options))
    assert (z - 200).abs().max() < 50
    assert torch.equal(z, geovae.sample(CODES, n=50, sampler=name, label=2, **options))


def test_a_digit_is_asked_for_and_drawn(trained_vae):
    saved = load_model(trained_vae)
    classify = extractor("mnist-net-v1").classify
    for digit in (0, 1, 3, 6):
        drawn, own = draw(saved.sampler("fine_mixture", label=digit), 200), saved.codes.of_class(digit).mu
        share, reconstructed = ((classify(saved.decode(z)) == digit).float().mean() for z in (drawn, own))
        assert (
            share > 0.75 * reconstructed > 0.3
        )  # a tenth without `label`; this small model blurs digits, also where it reconstructs them


@pytest.mark.parametrize(
    ("name", "codes", "label", "sentence"),
    [
        ("local", CODES, 7, r"`label` must be a class of the codes, got 7; they have: 0, 1, 2"),
        ("local", replace(CODES, labels=None), 1, r"`label` must be a class of the codes, got 1; they have: none"),
        ("prior", CODES, 1, "sampler prior draws from the model's prior, which has no classes"),
        ("vamp", CODES, 1, "sampler vamp draws from the model's prior, which has no classes"),
    ],
)
def test_a_class_that_cannot_be_drawn_is_refused(name, codes, label, sentence):
    with pytest.raises(ValueError, match=sentence):
        fit_sampler(name, codes, label=label)
