"""Diagnostics against closed forms, against processes of known autocorrelation, and against plain formulas."""

import math

import pytest
import torch

from geovae.samplers.diagnostics import (
    e_bfmi,
    ess,
    ess_bulk,
    ess_tail,
    fold_draws,
    nested_r_hat,
    plain_r_hat,
    r_hat,
    rank_normalise,
    split_chains,
)


def noise(t, n, seed=0):
    return torch.randn(t, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def autoregression(t, n, phi, seed=0):
    e, x = noise(t, n, seed), [noise(1, n, seed + 1)[0]]
    for i in range(1, t):
        x.append(phi * x[-1] + math.sqrt(1 - phi**2) * e[i])
    return torch.stack(x)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.5])
def test_effective_sample_size_of_an_autoregression(phi):
    """An AR(1) chain of length S has ESS S (1 - phi) / (1 + phi)."""
    draws = autoregression(4000, 8, phi)
    expected = draws.numel() * (1 - phi) / (1 + phi)
    assert ess(draws) == pytest.approx(expected, rel=0.1)
    assert ess_bulk(draws) == pytest.approx(expected, rel=0.1)


def test_independent_chains_pass_everything():
    draws = noise(1000, 8)
    assert r_hat(draws) < 1.005
    assert nested_r_hat(draws, 4) < 1.005
    assert ess_tail(draws) == pytest.approx(8000, rel=0.15)
    assert float(e_bfmi(draws).mean()) == pytest.approx(2, rel=0.05)


def test_plain_r_hat_by_hand():
    chains = torch.tensor([[0.0, 4.0], [2.0, 8.0]]).double()
    within, between = (2 + 8) / 2, ((6 - 1) ** 2) / 2
    assert plain_r_hat(chains) == pytest.approx(math.sqrt((within / 2 + between) / within))


def test_r_hat_sees_a_shift_a_scale_and_a_trend():
    same = noise(500, 4)
    shifted = same + torch.tensor([0.0, 0.0, 0.0, 2.0])
    scaled = same * torch.tensor([1.0, 1.0, 1.0, 8.0])
    trend = same + torch.linspace(-2, 2, 500).double().unsqueeze(1)
    for broken in (shifted, scaled, trend):
        assert r_hat(broken) > 1.1


def test_r_hat_does_not_care_about_heavy_tails():
    cauchy = torch.tan(math.pi * (torch.rand(1000, 4, generator=torch.Generator().manual_seed(0)) - 0.5)).double()
    assert r_hat(cauchy) < 1.01


def test_nested_r_hat_forgives_short_chains_and_sees_unforgotten_starts():
    forgotten = noise(2, 512)
    starts = noise(1, 16, seed=9).repeat_interleave(32, dim=1)
    assert nested_r_hat(forgotten, 16) < 1.05
    assert nested_r_hat(0.1 * forgotten + starts, 16) > 2


def test_nested_r_hat_by_hand():
    draws = torch.tensor([[0.0, 2.0, 10.0, 14.0], [2.0, 4.0, 12.0, 16.0]]).double()
    within = ((2 + 2) + (8 + 2)) / 2  # variance between the chains' means plus the mean variance within chains
    between = (13 - 2) ** 2 / 2
    assert nested_r_hat(draws, 2) == pytest.approx(math.sqrt(1 + between / within))


def test_ranks_halves_and_folding():
    draws = torch.tensor([[3.0, 1.0], [2.0, 7.0], [5.0, 4.0], [9.0, 0.0]])
    assert split_chains(draws).shape == (2, 4)
    assert torch.equal(split_chains(draws)[:, 2:], draws[2:].double())
    scores = rank_normalise(draws)
    assert torch.equal(scores.flatten().argsort(stable=True), draws.flatten().argsort(stable=True))
    assert float(scores.sum()) == pytest.approx(0, abs=1e-12)
    assert float(fold_draws(draws).min()) == 0.5


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match="t >= 4 transitions"):
        r_hat(noise(3, 4))
    with pytest.raises(ValueError, match="`n_super` must be at least 2 and divide the 4 chains, got 3"):
        nested_r_hat(noise(5, 4), 3)
