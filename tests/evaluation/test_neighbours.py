"""Nearest neighbours by brute force; memorisation of copies, near copies and new data."""

import pytest
import torch

from geovae.evaluation import frechet, memorisation, nearest, neighbours


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_brute_force(dtype, generator, monkeypatch):
    monkeypatch.setattr("geovae.evaluation.matrices.BLOCK", 16)
    queries = torch.randn(50, 7, generator=generator, dtype=torch.float64).to(dtype)
    reference = torch.randn(70, 7, generator=generator, dtype=torch.float64).to(dtype)
    found, expected = nearest(queries, reference), torch.cdist(queries.double(), reference.double()).min(dim=1)
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.distances, expected.values)


def test_leave_one_out(generator, monkeypatch):
    monkeypatch.setattr("geovae.evaluation.matrices.BLOCK", 16)
    x = torch.randn(50, 3, generator=generator)
    expected = torch.cdist(x, x).fill_diagonal_(torch.inf).min(dim=1)
    found = nearest(x, x, leave_one_out=True)
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.distances.float(), expected.values)


def test_a_copy_is_at_distance_zero_even_far_from_the_origin(generator):
    x = torch.randn(40, 20, generator=generator) + 1e3
    found = nearest(x.flip(0), x)
    assert torch.equal(found.indices, torch.arange(39, -1, -1))
    assert float(found.distances.max()) == 0.0


def test_bytes_count_as_images(generator):
    x = torch.randint(0, 256, (30, 12), generator=generator, dtype=torch.uint8)
    found, expected = nearest(x[:10], x[10:]), nearest(x[:10].double() / 255, x[10:].double() / 255)
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.distances, expected.distances)


def test_neighbours_by_hand():
    found = neighbours(real=torch.tensor([[0.0], [1.0], [2.0], [4.0]]), fake=torch.tensor([[0.0], [2.5], [4.5]]))
    assert found == pytest.approx({"neighbour_distance": 0.5, "neighbour_ratio": 0.5, "neighbour_copies": 1 / 3})


def test_memorisation_by_hand():
    """Distances to train: fake 1, 1, 3; held-out 1, 2, 4. Nearer in 5 of 9 pairs, ties 2."""
    train, fake, held_out = (
        torch.tensor([[0.0]]),
        torch.tensor([[1.0], [-1.0], [3.0]]),
        torch.tensor([[1.0], [2.0], [4.0]]),
    )
    found = memorisation(train=train, fake=fake, held_out=held_out)
    assert found["nn_distance"] == pytest.approx(1.0)
    assert found["nn_ratio"] == pytest.approx(0.5)
    assert found["nn_auc"] == pytest.approx((2 * (0.5 + 2) + 1) / 9)
    assert found["nn_close"] == pytest.approx(2 / 3)  # the 5 % quantile of the held-out is 1.1


def test_new_data_is_not_flagged_and_copies_are(generator):
    train, held_out, new = torch.randn(3 * 400, 8, generator=generator).split(400)
    fresh = memorisation(train=train, fake=new, held_out=held_out)
    assert fresh["nn_ratio"] == pytest.approx(1.0, abs=0.08)
    assert fresh["nn_auc"] == pytest.approx(0.5, abs=0.06)
    assert fresh["nn_close"] < 0.12
    copies = train + 0.02 * torch.randn(train.shape, generator=generator)
    copied = memorisation(train=train, fake=copies, held_out=held_out)
    assert copied["nn_ratio"] < 0.05
    assert copied["nn_auc"] > 0.99
    assert copied["nn_close"] == 1.0
    # and yet, by the Frechet distance to held-out data, copying is as good as it gets
    assert frechet(real=held_out, fake=copies)["frechet"] < 1.1 * frechet(real=held_out, fake=train)["frechet"]


def test_bad_input(generator):
    x = torch.randn(5, 3, generator=generator)
    with pytest.raises(ValueError, match="differ in width: 3 and 2"):
        nearest(x, x[:, :2])
    with pytest.raises(ValueError, match="`reference` must have at least 2 rows"):
        nearest(x, x[:1], leave_one_out=True)
    with pytest.raises(ValueError, match="`queries` has 1 of 5 rows with NaN"):
        nearest(torch.where(torch.arange(5)[:, None] == 2, torch.nan, x), x)
    with pytest.raises(ValueError, match=r"`queries` must be of shape \(n, dims\)"):
        nearest(x[0], x)
