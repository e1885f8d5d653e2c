"""A metric whose bumps are shaped by the codes: against numpy, at the ends, and what it does to the volume."""

import math

import numpy as np
import pytest
import torch

from geovae.codes import Codes
from geovae.geometry.local import RIDGE, local_precisions
from geovae.geometry.metric import LatentMetric
from geovae.geometry.temperature import coverage_temperature, likelihood_temperature
from geovae.samplers import SAMPLERS


def make_mu(n=300, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_precisions_are_inverse_covariances_of_the_nearest_codes():
    mu, indices = make_mu(), torch.tensor([5, 40, 7])
    for found, width, i in zip(
        local_precisions(mu, indices, "neighbours"), local_precisions(mu, indices, "bandwidth"), indices, strict=True
    ):
        away = (mu - mu[i]).numpy()
        near = away[np.argsort((away**2).sum(1))[1:21]]
        variance = (near**2).mean()
        np.testing.assert_allclose(np.linalg.inv(found), near.T @ near / 20 + RIDGE * variance * np.eye(3), rtol=1e-9)
        np.testing.assert_allclose(width, np.full(3, 1 / variance), rtol=1e-9)


def test_a_lone_code_and_codes_that_coincide_are_bounded():
    mu = torch.cat([make_mu(), torch.full((1, 3), 1e4), make_mu(1).repeat(30, 1)])
    width = 1 / local_precisions(mu, torch.arange(len(mu)), "bandwidth")[:, 0]
    typical = width[:300].median()
    assert width[300] < 10 * typical
    assert width.min() > 1e-4 * typical
    assert torch.linalg.eigvalsh(local_precisions(mu, torch.arange(len(mu)), "neighbours")).min() > 0
    with pytest.raises(ValueError, match="need codes that differ"):
        local_precisions(torch.ones(30, 3), torch.arange(30), "neighbours")
    with pytest.raises(ValueError, match="need 3 codes or more, got 2"):
        local_precisions(make_mu(2), torch.arange(2), "bandwidth")


def test_rules_of_the_temperature_agree_for_diagonals_and_matrices():
    mu = make_mu()
    values = make_mu(seed=1)[:50].exp()
    for rule in (
        lambda v: coverage_temperature(mu, mu[:50], v, coverage=0.3),
        lambda v: likelihood_temperature(mu, mu[:50], v),
    ):
        assert rule(torch.diag_embed(values)) == pytest.approx(rule(values), rel=1e-6)


@pytest.mark.parametrize("covariance", ["neighbours", "bandwidth"])
def test_no_posterior_variances_are_needed(covariance):
    sampler = SAMPLERS["riemannian"](preset=None, covariance=covariance)
    z = sampler.fit(Codes(make_mu(d=5).float())).sample(50, torch.Generator().manual_seed(0))
    assert z.shape == (50, 5)
    assert z.dtype == torch.float32


@pytest.mark.parametrize("shape", ["neighbours", "bandwidth"])
def test_the_width_of_a_cluster_does_not_change_its_volume(shape):
    """Codes a times as wide have a density `a^-d` as high: the same mass. With posterior variances they have not."""
    mu, z, every, a = make_mu(), make_mu(seed=2), torch.arange(300), 0.2

    def volume(scale, values):
        metric = LatentMetric(scale * mu, values, temperature=0.8, floor=1e-100)
        return metric.log_volume(scale * z) + 3 * math.log(scale)

    narrow, wide = (volume(scale, local_precisions(scale * mu, every, shape)) for scale in (a, 1.0))
    torch.testing.assert_close(narrow, wide)
    posterior = torch.full_like(mu, 9.0)
    more = volume(a, posterior).logsumexp(0) - volume(1.0, posterior).logsumexp(0)
    assert more > 1  # more bumps overlap in the narrow cluster


def test_jumps_need_a_diagonal():
    with pytest.raises(ValueError, match=r"`n_jumps` must be 0 with covariance='neighbours', got 2; use 'bandwidth'"):
        SAMPLERS["riemannian"](preset=None, covariance="neighbours", n_jumps=2)
