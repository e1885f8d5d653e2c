"""Range checks: the edges of every range, and the sentence that names value and rule."""

import math

import pytest
import torch

from geovae.checks import check_choice, check_count, check_finite, check_not_negative, check_positive, check_share


@pytest.mark.parametrize(
    ("check", "good", "bad", "rule"),
    [
        (check_positive, [1e-9, 1], [0, -1, math.inf, math.nan], "positive and finite"),
        (check_not_negative, [0, 2.5], [-1e-9, math.inf, math.nan], "0 or more and finite"),
        (check_share, [1e-9, 1], [0, 1.0001, math.nan], r"lie in \(0, 1\]"),
        (check_count, [1, 10**9], [0, 1.0, True, "1"], "a whole number of at least 1"),
    ],
)
def test_ranges(check, good, bad, rule):
    for value in good:
        check(option=value)
    for value in bad:
        with pytest.raises(ValueError, match=rf"`option` must (be )?{rule}, got {value!r}"):
            check(option=value)


def test_a_count_with_another_lowest_value():
    check_count(low=0, seed=0)
    with pytest.raises(ValueError, match="`n` must be a whole number of at least 2, got 1"):
        check_count(low=2, n=1)


def test_choices():
    check_choice("mass", "unit", {"posterior": 1, "unit": 2})
    with pytest.raises(ValueError, match="`mass` must be one of posterior, unit, got 'x'"):
        check_choice("mass", "x", ("posterior", "unit"))
    with pytest.raises(ValueError, match="got None"):
        check_choice("mass", None, ("posterior", "unit"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_finite_tensors(value):
    check_finite(z=torch.zeros(3, 2))
    with pytest.raises(ValueError, match="`z` must be finite, got NaN or infinity"):
        check_finite(z=torch.tensor([0.0, value]))
