"""Copies by hand; memorisation of copies, near copies and new data."""

import pytest
import torch

from geovae.evaluation import frechet, memorisation, neighbours


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
    found = memorisation("pixels", train=train, fake=fake, held_out=held_out)
    assert found["nn_pixels_distance"] == pytest.approx(1.0)
    assert found["nn_pixels_ratio"] == pytest.approx(0.5)
    assert found["nn_pixels_auc"] == pytest.approx((2 * (0.5 + 2) + 1) / 9)
    assert found["nn_pixels_close"] == pytest.approx(2 / 3)  # the 5 % quantile of the held-out is 1.1


def test_new_data_is_not_flagged_and_copies_are(generator):
    train, held_out, new = torch.randn(3 * 400, 8, generator=generator).split(400)
    fresh = memorisation("pixels", train=train, fake=new, held_out=held_out)
    assert fresh["nn_pixels_ratio"] == pytest.approx(1.0, abs=0.08)
    assert fresh["nn_pixels_auc"] == pytest.approx(0.5, abs=0.06)
    assert fresh["nn_pixels_close"] < 0.12
    copies = train + 0.02 * torch.randn(train.shape, generator=generator)
    copied = memorisation("pixels", train=train, fake=copies, held_out=held_out)
    assert copied["nn_pixels_ratio"] < 0.05
    assert copied["nn_pixels_auc"] > 0.99
    assert copied["nn_pixels_close"] == 1.0
    assert (fresh["nn_pixels_flag"], copied["nn_pixels_flag"]) == (0.0, 1.0)
    # and yet, by the Frechet distance to held-out data, copying is as good as it gets
    assert frechet(real=held_out, fake=copies)["frechet"] < 1.1 * frechet(real=held_out, fake=train)["frechet"]
