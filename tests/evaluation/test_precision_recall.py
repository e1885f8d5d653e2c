"""Precision, recall, density and coverage: by hand, against prdc, and where floats are unkind."""

import pytest
import torch

from geovae.evaluation import precision_recall
from geovae.evaluation.neighbour_scores import neighbour_reach


def test_by_hand_on_a_line():
    """k = 1. Real 0, 1, 3 with balls 1, 1, 2; fake 0.5, 6, 7 with balls 5.5, 1, 1."""
    real, fake = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [6.0], [7.0]])
    found = precision_recall(real=real, fake=fake, k=1, k_density=1)
    assert found["precision"] == pytest.approx(1 / 3)  # only 0.5 lies in a real ball
    assert found["recall"] == pytest.approx(1.0)  # the ball around 0.5 reaches all
    assert found["density"] == pytest.approx(2 / 3)  # 0.5 lies in the balls of 0 and 1; 2.5 is too far from 3
    assert found["coverage"] == pytest.approx(2 / 3)


def test_precision_counts_the_rim_and_density_does_not():
    """Fake 3 lies exactly on the rim of the ball of 2 around 1 (k = 1: the neighbour of 1 is -1)."""
    real, fake = torch.tensor([[-1.0], [1.0]]), torch.tensor([[3.0], [30.0]])
    found = precision_recall(real=real, fake=fake, k=1, k_density=1)
    assert (found["precision"], found["density"], found["coverage"]) == (0.5, 0.0, 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_equals_prdc(dtype, shift, generator, capsys):
    compute_prdc = pytest.importorskip("prdc").compute_prdc
    real = torch.randn(150, 8, generator=generator, dtype=torch.float64)
    fake = torch.randn(130, 8, generator=generator, dtype=torch.float64) + shift
    for k in (3, 5):
        expected = compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
        found = precision_recall(real=real.to(dtype), fake=fake.to(dtype), k=k, k_density=k)
        assert found == pytest.approx({key: float(value) for key, value in expected.items()}, abs=1e-12)


def test_equal_distributions(generator):
    """Naeem et al. 2020: density 1 and coverage 1 - 2^-k in expectation."""
    real, fake = torch.randn(2 * 3000, 6, generator=generator).split(3000)
    found = precision_recall(real=real, fake=fake)
    assert found["density"] == pytest.approx(1.0, abs=0.04)
    assert found["coverage"] == pytest.approx(1 - 2**-5, abs=0.01)


def test_blocks_do_not_change_the_value(generator, monkeypatch):
    real, fake = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (60, 45))
    whole = precision_recall(real=real, fake=fake)
    reach = neighbour_reach(real, 3)
    monkeypatch.setattr("geovae.neighbours.BLOCK", 7)
    assert precision_recall(real=real, fake=fake) == whole
    torch.testing.assert_close(neighbour_reach(real, 3), reach)


def test_reach_equals_sorted_distances(generator):
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    expected = torch.cdist(x, x).sort(dim=1).values[:, 1:5]
    torch.testing.assert_close(neighbour_reach(x, 4).sqrt(), expected)


def test_an_offset_of_1e3_in_float32_changes_nothing(generator):
    real, fake = torch.randn(600, 64, generator=generator), torch.randn(600, 64, generator=generator) * 0.9
    plain = precision_recall(real=real, fake=fake)
    shifted = precision_recall(real=real + 1e3, fake=fake + 1e3)
    assert shifted == pytest.approx(plain, abs=0.01)


def test_copies_and_duplicates(generator):
    x = torch.randn(50, 4, generator=generator)
    copied = precision_recall(real=x, fake=x.flip(0))
    assert copied == {"precision": 1.0, "recall": 1.0, "density": 1.0, "coverage": 1.0}
    doubled = precision_recall(real=x, fake=x.repeat(2, 1))
    assert (doubled["precision"], doubled["coverage"]) == (1.0, 1.0)


def test_bad_input(generator):
    x = torch.randn(6, 2, generator=generator)
    with pytest.raises(ValueError, match="`real` must have at least 6 rows for this score, got 5"):
        precision_recall(real=x[:5], fake=x)
    with pytest.raises(ValueError, match="`k` must be a whole number of at least 1, got 0"):
        precision_recall(real=x, fake=x, k=0)
    with pytest.raises(ValueError, match="must be below the number of rows, got 6 and 5 for 6 real"):
        precision_recall(real=x, fake=x, k=6)
