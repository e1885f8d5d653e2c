"""The contract of every score in the registry, and of the tutorial's:

* it takes keyword-only feature matrices `real` and `fake`, tensors or arrays, and leaves them as they are;
* it returns exactly the numbers that it declares, under names that MLflow takes;
* equal sets give the declared value, sets far apart the other one, or else a worse one;
* the order of rows does not matter, beyond the declared noise;
* `least_rows` rows are enough, fewer are refused, and so is whatever is no feature matrix.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from geovae.evaluation import SCORES, better, headline, kid, recorded_numbers

ROOT = Path(__file__).parents[2]


def tutorials_scores():
    """The scores that docs/tutorials/score.md adds to the registry."""
    page = (ROOT / "docs" / "tutorials" / "score.md").read_text()
    before = set(SCORES)
    exec(re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1], {})
    return {name: SCORES.pop(name) for name in set(SCORES) - before}


ALL = SCORES | tutorials_scores()
each_score = pytest.mark.parametrize("name", ALL)


def test_the_tutorial_adds_a_score():
    assert len(ALL) > len(SCORES)


@each_score
def test_it_returns_the_numbers_that_it_declares(name, generator):
    score = ALL[name]
    x = torch.randn(max(30, score.least_rows), 3, generator=generator)
    assert score(real=x, fake=x + 1).keys() == score.numbers.keys()
    for key, number in score.numbers.items():
        assert re.fullmatch(r"[\w.-]+", key)
        assert number.meaning
        assert number.unit
        assert number.better in ("", "lower", "higher")


@each_score
def test_equal_sets_are_best_and_far_sets_worst(name, generator, device):
    x = torch.randn(60, 6, generator=generator).to(device)
    near, far = ALL[name](real=x, fake=x), ALL[name](real=x, fake=x + 100)
    for key, number in ALL[name].numbers.items():
        assert number.equal is None or near[key] == pytest.approx(number.equal, abs=1e-6), key
        assert number.far is None or far[key] == pytest.approx(number.far, abs=1e-2), key
        if number.equal is None or number.far is None:
            assert number.better != "lower" or far[key] > near[key], key
            assert number.better != "higher" or far[key] < near[key], key


@each_score
def test_the_order_of_rows_does_not_matter(name, generator):
    real, fake = (torch.randn(300, 4, generator=generator).double() + shift for shift in (0.0, 0.3))
    order = torch.randperm(300, generator=generator)
    first, second = ALL[name](real=real, fake=fake), ALL[name](real=real[order], fake=fake[order.flip(0)])
    for key, number in ALL[name].numbers.items():
        assert math.isinf(number.noise) or first[key] == pytest.approx(second[key], abs=number.noise), key


@each_score
def test_arrays_are_as_good_as_tensors(name, generator):
    real, fake = torch.randn(40, 4, generator=generator), torch.randn(40, 4, generator=generator)
    assert ALL[name](real=real.numpy(), fake=fake.numpy()) == ALL[name](real=real, fake=fake)


@each_score
def test_inputs_are_left_alone(name, generator):
    real, fake = torch.randn(40, 4, generator=generator), torch.randn(40, 4, generator=generator)
    copies = real.clone(), fake.clone()
    ALL[name](real=real, fake=fake)
    assert torch.equal(real, copies[0])
    assert torch.equal(fake, copies[1])


@each_score
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e3])
def test_constant_features_give_numbers(name, constant):
    x = torch.full((30, 5), constant)
    found = ALL[name](real=x, fake=x)
    assert all(math.isfinite(v) for v in found.values())
    for key in ("prd_f8", "prd_f1_8", "precision", "recall", "neighbour_copies"):
        assert found.get(key, 1.0) == pytest.approx(1.0)
    assert found.get("frechet", 0.0) == pytest.approx(0.0, abs=1e-9)


@each_score
def test_the_least_number_of_rows_is_enough_and_one_fewer_is_refused(name, generator):
    score = ALL[name]
    real, fake = (torch.randn(score.least_rows, 3, generator=generator) for _ in range(2))
    found = score(real=real, fake=fake)
    assert all(math.isfinite(found[key]) for key, number in score.numbers.items() if math.isfinite(number.noise))
    with pytest.raises(ValueError, match=rf"`fake` must have at least {score.least_rows} rows for this score, got"):
        score(real=real, fake=fake[1:])


@each_score
def test_bad_input(name, generator):
    x = torch.randn(30, 3, generator=generator)
    score = ALL[name]
    with pytest.raises(TypeError, match="positional"):
        score(x, x)
    with pytest.raises(ValueError, match="`fake` has 2 of 30 rows with NaN or infinity"):
        score(real=x, fake=torch.where(torch.arange(30)[:, None] < 2, torch.inf, x))
    with pytest.raises(ValueError, match="same number of columns, got 3 and 2"):
        score(real=x, fake=x[:, :2])
    with pytest.raises(ValueError, match=r"`fake` must be a feature matrix of shape \(n, dims\), got \(30, 3, 1\)"):
        score(real=x, fake=x[:, :, None])
    with pytest.raises(ValueError, match=r"`real` must be a feature matrix"):
        score(real=np.zeros((30, 0)), fake=x)


def test_only_inception_gives_fid():
    assert headline("inception") == "fid"
    assert headline("random-conv-v1") == "fd_random-conv-v1"
    stderr = kid.numbers["kid_stderr"]
    assert stderr.recorded_name("kid_stderr", "inception") == "kid_stderr"
    assert stderr.recorded_name("kid_stderr", "pixels") == "kid_pixels_stderr"
    assert {"fid", "fd_<extractor>", "prd_f8", "nn_<space>_ratio", "n"} <= recorded_numbers().keys()


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("fid", "lower"),
        ("fd_random-conv-v1", "lower"),
        ("prd_f8", "higher"),
        ("nn_pixels_close", "lower"),
        ("kid_pixels_stderr", ""),
        ("n", ""),
        ("x", ""),
    ],
)
def test_it_is_known_which_side_is_better(name, side):
    assert better(name) == side
