"""Spread and classes: the half-sample standard error against theory, classes against scores by hand."""

import pytest
import torch

from geovae.evaluation import frechet, half_sample_spread, per_class


def difference_of_means(*, real, fake):
    return {"difference": float(real.mean() - fake.mean())}


def test_standard_error_of_a_mean(generator):
    """sd(mean x - mean y) = sqrt(1/n + 4/m) for deviations 1 and 2."""
    real, fake = torch.randn(400, 1, generator=generator), 2 * torch.randn(300, 1, generator=generator)
    found = half_sample_spread(difference_of_means, real=real, fake=fake, repeats=300)
    assert found["difference_sd"] == pytest.approx((1 / 400 + 4 / 300) ** 0.5, rel=0.15)


def test_seeded(generator):
    real, fake = torch.randn(40, 3, generator=generator), torch.randn(40, 3, generator=generator)
    first = half_sample_spread(frechet, real=real, fake=fake, repeats=4, seed=3)
    assert half_sample_spread(frechet, real=real, fake=fake, repeats=4, seed=3) == first
    assert half_sample_spread(frechet, real=real, fake=fake, repeats=4, seed=9) != first
    with pytest.raises(ValueError, match="`repeats` must be a whole number of at least 2, got 1"):
        half_sample_spread(frechet, real=real, fake=fake, repeats=1)


def test_per_class_by_hand():
    """Class 0: 0, 2 against 3, 3 is 9 with variances 2 and 0; class 1 has equal sets."""
    real = torch.tensor([[0.0], [2.0], [5.0], [7.0]]) + torch.tensor([[0.0], [0.0], [0.0], [0.0]])
    fake = torch.tensor([[5.0], [3.0], [7.0], [3.0]])
    labels = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 1, 0])
    found = per_class(frechet, real=real, fake=fake, real_labels=labels[0], fake_labels=labels[1], at_least=2)
    assert found == pytest.approx({"n_class0": 2, "frechet_class0": 4 + 2, "n_class1": 2, "frechet_class1": 0})


def test_a_missing_class_is_named(generator):
    x = torch.randn(8, 2, generator=generator)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), torch.zeros(8).long()
    with pytest.warns(UserWarning, match=r"no score within classes of fewer than 2 rows: 1 \(4 real, 0 fake\)"):
        found = per_class(frechet, real=x, fake=x, real_labels=labels[0], fake_labels=labels[1], at_least=2)
    assert found["n_class1"] == 0
    assert "frechet_class1" not in found
    with pytest.raises(ValueError, match=r"`fake_labels` must be of shape \(8,\), one label a row, got \(7,\)"):
        per_class(frechet, real=x, fake=x, real_labels=labels[0], fake_labels=labels[1][:7])
