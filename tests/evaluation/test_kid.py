"""KID against a double loop, and its standard error against repetition."""

import math
from importlib import import_module

import pytest
import torch

from geovae.evaluation import kid

MODULE = import_module("geovae.evaluation.kid")  # the package has the score under the same name


def double_loop(x, y):
    """The unbiased estimate, term by term (Binkowski et al. 2018)."""

    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    x, y = x.tolist(), y.tolist()
    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (2, 3), (13, 13), (17, 29)])
def test_equals_the_double_loop(n, m, generator):
    real = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    fake = torch.randn(m, 4, generator=generator, dtype=torch.float64) + 0.5
    assert kid(real=real, fake=fake)["kid"] == pytest.approx(double_loop(real, fake), rel=1e-12)


def test_blocks_do_not_change_the_value(generator, monkeypatch):
    real, fake = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (50, 41))
    whole = kid(real=real, fake=fake)
    monkeypatch.setattr("geovae.neighbours.BLOCK", 7)
    monkeypatch.setattr(MODULE, "_SUMS", {})
    assert kid(real=real, fake=fake) == pytest.approx(whole, rel=1e-10)


def test_sums_of_a_real_set_are_kept_for_that_set_alone(generator, monkeypatch):
    monkeypatch.setattr(MODULE, "KEPT", 2)
    sets = [torch.randn(9, 3, generator=generator, dtype=torch.float64) for _ in range(5)]
    for real in (*sets[:3], sets[0], sets[0].clone().mul_(2)):
        for fake in sets[3:]:
            assert kid(real=real, fake=fake)["kid"] == pytest.approx(double_loop(real, fake), rel=1e-12)


def test_no_standard_error_from_three_rows(generator):
    found = kid(real=torch.randn(3, 2, generator=generator), fake=torch.randn(9, 2, generator=generator))
    assert math.isnan(found["kid_stderr"])
    assert math.isfinite(found["kid"])


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.6, 1.7), (0.5, 0.8, 1.25)])
def test_standard_error_is_the_deviation_over_repetitions(shift, low, high, generator):
    """Also under equal distributions, where the leading term of the variance vanishes."""
    found = [
        kid(real=torch.randn(100, 5, generator=generator), fake=torch.randn(100, 5, generator=generator) + shift)
        for _ in range(150)
    ]
    deviation = torch.tensor([f["kid"] for f in found]).std()
    claimed = torch.tensor([f["kid_stderr"] for f in found]).square().mean().sqrt()
    assert low < float(claimed / deviation) < high


def test_unbiased_for_equal_distributions(generator):
    values = torch.tensor(
        [
            kid(real=torch.randn(20, 3, generator=generator), fake=torch.randn(20, 3, generator=generator))["kid"]
            for _ in range(200)
        ]
    )
    assert abs(float(values.mean())) < 4 * float(values.std()) / 200**0.5
