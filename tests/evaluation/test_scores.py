"""The contract of SCORES: keyword-only feature matrices; equal sets best, order of rows free, far sets worst."""

import math

import numpy as np
import pytest
import torch

from geovae.evaluation import SCORES
from geovae.evaluation.scores import reported_name

# (best, worst) of each key, or None where there is no bound
BOUNDS = {
    "frechet": (0.0, None),
    "kid": (None, None),
    "prd_f8": (1.0, 0.0),
    "prd_f1_8": (1.0, 0.0),
    "precision": (1.0, 0.0),
    "recall": (1.0, 0.0),
    "density": (1.0, 0.0),
    "coverage": (1.0, 0.0),
    "neighbour_ratio": (0.0, None),
}
LESS_IS_BETTER = ("frechet", "kid")
each_score = pytest.mark.parametrize("name", SCORES)


def test_registered_names_and_keys(generator):
    x = torch.randn(30, 3, generator=generator)
    keys = {name: set(score(real=x, fake=x + 1)) for name, score in SCORES.items()}
    assert keys == {
        "frechet": {"frechet"},
        "kid": {"kid", "kid_stderr"},
        "prd": {"prd_f8", "prd_f1_8"},
        "precision_recall": {"precision", "recall", "density", "coverage"},
        "neighbours": {"neighbour_distance", "neighbour_ratio", "neighbour_copies"},
    }


@each_score
def test_equal_sets_are_best_and_far_sets_worst(name, generator, device):
    x = torch.randn(60, 6, generator=generator).to(device)
    near, far = SCORES[name](real=x, fake=x), SCORES[name](real=x, fake=x + 100)
    for key, value in near.items():
        best, worst = BOUNDS.get(key, (None, None))
        assert best is None or value == pytest.approx(best, abs=1e-6), key
        assert worst is None or far[key] == pytest.approx(worst, abs=1e-2), key
        assert key not in LESS_IS_BETTER or far[key] > value, key


@each_score
def test_the_order_of_rows_does_not_matter(name, generator):
    real, fake = (
        torch.randn(300, 4, generator=generator).double(),
        torch.randn(300, 4, generator=generator).double() + 0.3,
    )
    order = torch.randperm(300, generator=generator)
    first, second = SCORES[name](real=real, fake=fake), SCORES[name](real=real[order], fake=fake[order.flip(0)])
    tolerance = 0.03 if name == "prd" else 1e-9  # clusters start from other draws
    for key in first:
        if key != "kid_stderr":
            assert first[key] == pytest.approx(second[key], abs=tolerance)


@each_score
def test_arrays_are_as_good_as_tensors(name, generator):
    real, fake = torch.randn(40, 4, generator=generator), torch.randn(40, 4, generator=generator)
    assert SCORES[name](real=real.numpy(), fake=fake.numpy()) == SCORES[name](real=real, fake=fake)


@each_score
def test_inputs_are_left_alone(name, generator):
    real, fake = torch.randn(40, 4, generator=generator), torch.randn(40, 4, generator=generator)
    copies = real.clone(), fake.clone()
    SCORES[name](real=real, fake=fake)
    assert torch.equal(real, copies[0])
    assert torch.equal(fake, copies[1])


@each_score
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e3])
def test_constant_features_give_numbers(name, constant):
    x = torch.full((30, 5), constant)
    found = SCORES[name](real=x, fake=x)
    assert all(math.isfinite(v) for v in found.values())
    for key in ("prd_f8", "prd_f1_8", "precision", "recall", "neighbour_copies"):
        assert found.get(key, 1.0) == pytest.approx(1.0)
    assert found.get("frechet", 0.0) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", ["frechet", "kid", "neighbours"])
def test_two_rows_are_enough(name, generator):
    found = SCORES[name](real=torch.randn(2, 3, generator=generator), fake=torch.randn(2, 3, generator=generator))
    assert all(math.isfinite(v) for key, v in found.items() if key != "kid_stderr")


@each_score
def test_bad_input(name, generator):
    x = torch.randn(30, 3, generator=generator)
    score = SCORES[name]
    with pytest.raises(TypeError, match="positional"):
        score(x, x)
    with pytest.raises(ValueError, match="`fake` has 2 of 30 rows with NaN or infinity"):
        score(real=x, fake=torch.where(torch.arange(30)[:, None] < 2, torch.inf, x))
    with pytest.raises(ValueError, match="same number of columns, got 3 and 2"):
        score(real=x, fake=x[:, :2])
    with pytest.raises(ValueError, match=r"`real` must have at least \d rows for this score, got 1"):
        score(real=x[:1], fake=x)
    with pytest.raises(ValueError, match=r"`fake` must be a feature matrix of shape \(n, dims\), got \(30, 3, 1\)"):
        score(real=x, fake=x[:, :, None])
    with pytest.raises(ValueError, match=r"`real` must be a feature matrix"):
        score(real=np.zeros((30, 0)), fake=x)


def test_only_inception_gives_fid():
    assert reported_name("frechet", "inception") == "fid"
    assert reported_name("real_kid_stderr", "inception") == "real_kid_stderr"
    assert reported_name("frechet", "random-conv-v1") == "fd_random-conv-v1"
    assert reported_name("real_frechet_sd", "pixels") == "real_fd_pixels_sd"
    assert reported_name("kid_stderr", "pixels") == "kid_pixels_stderr"
    assert reported_name("prd_f8", "pixels") == "prd_f8"
