"""Draws of the bumps: each against its own covariance, under changes of coordinates, of block sizes, of copies."""

import math

import numpy as np
import pytest
import torch

from geovae.codes import Codes
from geovae.neighbours import nearest
from geovae.samplers import SAMPLERS, FineMixtureSampler, LocalSampler, gaussian, local
from tests.samplers.test_local import clusters, covariances, seeded

SMALL = 0.01  # a scale at which no bump touches another: each draw belongs to its nearest code


@pytest.mark.parametrize("shape", ["neighbours", "posterior", "both", "isotropic"])
def test_each_bump_has_its_own_covariance(shape):
    mu, log_var = 3 * torch.randn(12, 3, generator=seeded()), torch.randn(12, 3, generator=seeded(3))
    sampler = LocalSampler(shape, n_neighbours=4, scale=SMALL).fit(Codes(mu, log_var))
    _, full, variance = covariances(sampler, mu)
    own = log_var.double().exp().numpy()
    own = own / own.mean(1, keepdims=True) * variance[:, None]
    expected = {
        "neighbours": full + local.RIDGE * variance[:, None, None] * np.eye(3),
        "isotropic": variance[:, None, None] * np.eye(3),
        "posterior": own[:, :, None] * np.eye(3),
        "both": 0.5 * full + 0.5 * own[:, :, None] * np.eye(3),
    }[shape]
    z = sampler.sample(120_000, seeded(1))
    bump = torch.cdist(z, mu).argmin(1)
    assert torch.bincount(bump).double().numpy() == pytest.approx(10_000, abs=500), "all codes weigh the same"
    for i in range(12):
        away = (z[bump == i] - mu[i]).double().numpy() / SMALL
        # four standard errors of a variance of 10,000 draws
        assert np.abs(away.mean(0)).max() < 4 * math.sqrt(variance[i] * 3 / 1e4)
        assert np.cov(away, rowvar=False) == pytest.approx(expected[i], abs=4 * math.sqrt(2 / 1e4) * 3 * variance[i])


def rotation(d):
    return torch.linalg.qr(torch.randn(d, d, generator=seeded(7), dtype=torch.float64)).Q


@pytest.mark.parametrize("sampler", [LocalSampler(scale=0.9), LocalSampler("isotropic", scale=0.9, centre=0.5)])
def test_bumps_turn_move_and_grow_with_the_codes(sampler):
    """Under z -> 3 Q z + t neighbours stay neighbours, and the log-density falls by d log 3."""
    mu, z, turn = clusters(80).double(), clusters(9, seed=5).double(), rotation(4)
    before = sampler.fit(Codes(mu)).log_density(z)
    after = sampler.fit(Codes(3 * mu @ turn + 2)).log_density(3 * z @ turn + 2)
    torch.testing.assert_close(after, before - 4 * math.log(3))


@pytest.mark.parametrize("name", ["local", "fine_mixture", "mixture"])
def test_the_unit_of_the_codes_and_their_origin_do_not_matter(name):
    mu, held_out = clusters(400).double(), clusters(300, seed=1).double()
    z = SAMPLERS[name]().fit(Codes(mu, held_out=held_out)).sample(200, seeded(2))
    moved = SAMPLERS[name]().fit(Codes(4 * mu - 8, held_out=4 * held_out - 8)).sample(200, seeded(2))
    torch.testing.assert_close(moved, 4 * z - 8, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("member", [LocalSampler, FineMixtureSampler])
def test_draws_do_not_depend_on_the_size_of_blocks(member, monkeypatch):
    codes, results = Codes(clusters(300), held_out=clusters(100, seed=1)), []
    for rows in (4096, 7):
        monkeypatch.setattr(local, "ROWS", rows)
        monkeypatch.setattr(gaussian, "ROWS", rows)
        sampler = member().fit(codes)
        z = sampler.sample(50, seeded(2))
        results.append((z, sampler.log_density(z)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("held_out", [None, clusters(40, seed=1)])
def test_codes_that_are_each_there_three_times(held_out):
    """Two neighbours of each code are its copies: its bump is a point, drawn again or with a finite density."""
    mu = clusters(20).repeat(3, 1)
    sampler = LocalSampler(n_neighbours=2).fit(Codes(mu, held_out=held_out))
    z = sampler.sample(60, seeded())
    assert nearest(z, mu).distances.max() < 1e-6
    assert torch.isfinite(sampler.log_density(z)).all()
    wider = LocalSampler(n_neighbours=6).fit(Codes(mu, held_out=clusters(40, seed=1)))
    assert torch.isfinite(wider.log_density(wider.sample(60, seeded()))).all()


def test_copies_among_the_codes_do_not_widen_the_other_bumps():
    """Half of the codes coincide: their draws are copies at any scale, and must not count when it is found."""
    mu, held_out = clusters(400), clusters(300, seed=1)
    mu[:200] = mu[0]
    z, info = LocalSampler().fit(Codes(mu, held_out=held_out)).sample(1000, seeded(), return_info=True)
    assert 0.5 < info.numbers["scale"] < 2
    assert float(((z - mu[0]).norm(dim=1) == 0).double().mean()) == pytest.approx(0.5, abs=0.05)
