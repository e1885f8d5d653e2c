"""Bumps at the codes and the fine mixture against closed forms, exact densities, and codes with a known answer."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from geovae.codes import Codes
from geovae.neighbours import code_novelty, k_nearest
from geovae.samplers import FineMixtureSampler, LocalSampler, MixtureSampler
from geovae.samplers.local import LARGEST_BUMP, RIDGE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clusters(n, d=4, seed=0):
    """Return n points of five Gaussians of unequal shape, far apart."""
    g = seeded(seed)
    scales = torch.linspace(0.2, 2.0, d)
    return 6 * torch.eye(5, d)[torch.arange(n) % 5] + scales * torch.randn(n, d, generator=g)


def covariances(sampler, mu):
    """Return the covariance of each bump by its definition, with NumPy: neighbours by brute force."""
    x = mu.double().numpy()
    near = np.argsort(((x[:, None] - x[None]) ** 2).sum(-1), axis=1)[:, 1 : sampler.n_neighbours + 1]
    centres = (1 - sampler.centre) * x + sampler.centre * x[near].mean(1)
    away = x[near] - centres[:, None]
    full = np.einsum("nmd,nme->nde", away, away) / near.shape[1]
    variance = np.trace(full, axis1=1, axis2=2) / x.shape[1]
    capped = np.minimum(variance, LARGEST_BUMP**2 * np.median(variance))
    return centres, full * (capped / variance)[:, None, None], capped


@pytest.mark.parametrize("centre", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shape", ["neighbours", "posterior", "both", "isotropic"])
def test_the_log_density_is_the_mixture_of_the_bumps(shape, centre):
    mu = clusters(60, d=3)
    log_var = torch.randn(60, 3, generator=seeded(3))
    sampler = LocalSampler(shape, n_neighbours=7, centre=centre, scale=0.8).fit(Codes(mu, log_var))
    centres, full, variance = covariances(sampler, mu)
    own = log_var.double().exp().numpy()
    own = own / own.mean(1, keepdims=True) * variance[:, None]
    diagonal = {
        "neighbours": RIDGE * np.repeat(variance[:, None], 3, 1),
        "isotropic": np.repeat(variance[:, None], 3, 1),
        "posterior": own,
        "both": own / 2,
    }[shape]
    share = {"neighbours": 1, "both": 0.5}.get(shape, 0)
    z = clusters(9, d=3, seed=5)
    each = [
        multivariate_normal(m, 0.64 * (share * c + np.diag(v))).pdf(z.numpy())
        for m, c, v in zip(centres, full, diagonal, strict=True)
    ]
    torch.testing.assert_close(sampler.log_density(z), torch.from_numpy(np.log(np.mean(each, 0))), rtol=1e-5, atol=1e-5)


def test_draws_have_the_moments_of_the_mixture():
    mu = clusters(50, d=3)
    sampler = LocalSampler(n_neighbours=6, scale=1.3).fit(Codes(mu))
    centres, full, variance = covariances(sampler, mu)
    expected = np.cov(centres, rowvar=False, bias=True) + 1.69 * (full.mean(0) + RIDGE * variance.mean() * np.eye(3))
    z = sampler.sample(200_000, seeded()).double().numpy()
    assert z.mean(0) == pytest.approx(centres.mean(0), abs=0.03)
    assert np.cov(z, rowvar=False) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("sampler", [LocalSampler(), LocalSampler("isotropic"), LocalSampler(centre=0.5)])
def test_the_scale_gives_draws_the_novelty_of_held_out_codes(sampler):
    mu, held_out = clusters(1500), clusters(1500, seed=1)
    z = sampler.fit(Codes(mu, held_out=held_out)).sample(4000, seeded(2))
    assert code_novelty(z, mu, held_out) == pytest.approx(1.0, abs=0.05)


def test_less_or_more_novelty_may_be_asked_for():
    codes = Codes(clusters(1000), held_out=clusters(1000, seed=1))
    for novelty in (0.6, 1.5):
        z = LocalSampler(novelty=novelty).fit(codes).sample(4000, seeded(2))
        assert code_novelty(z, codes.mu, codes.held_out) == pytest.approx(novelty, rel=0.06)


def test_the_fine_mixture_has_the_components_that_novelty_allows():
    codes = Codes(clusters(2000), held_out=clusters(2000, seed=1))
    sampler = FineMixtureSampler().fit(codes)
    z, info = sampler.sample(4000, seeded(2), return_info=True)
    assert 5 <= info.numbers["n_components"] < 400
    assert code_novelty(z, codes.mu, codes.held_out) == pytest.approx(1.0, abs=0.08)
    fewer = FineMixtureSampler(novelty=1.3).fit(codes).sample(10, seeded(), return_info=True)[1]
    assert fewer.numbers["n_components"] < info.numbers["n_components"]


def test_the_log_density_of_a_mixture_is_that_of_the_fitted_gaussians():
    mu = clusters(300)
    points = mu.double().numpy()
    fitted = GaussianMixture(3, n_init=3, reg_covar=1e-6 * points.var(0).mean(), random_state=0).fit(points)
    truth = fitted.score_samples(points[:9])
    found = MixtureSampler(3).fit(Codes(mu)).log_density(mu[:9])
    torch.testing.assert_close(found, torch.from_numpy(truth))


def test_a_lone_code_does_not_spread_its_samples_over_the_space():
    mu = torch.cat([clusters(400), torch.full((1, 4), 500.0)])
    z = LocalSampler(scale=1.0).fit(Codes(mu)).sample(20_000, seeded())
    between = ((z - mu[-1]).norm(dim=1) > 50) & (z.norm(dim=1) > 50)
    assert not between.any()
    assert ((z - mu[-1]).norm(dim=1) < 50).float().mean() == pytest.approx(1 / 401, abs=2e-3)


@pytest.mark.parametrize("n_neighbours", [1, 3])
def test_fewer_neighbours_than_dimensions_still_have_a_density(n_neighbours):
    mu = torch.randn(40, 12, generator=seeded())
    sampler = LocalSampler(n_neighbours=n_neighbours).fit(Codes(mu))
    assert torch.isfinite(sampler.log_density(sampler.sample(30, seeded()))).all()


@pytest.mark.parametrize("member", [LocalSampler, FineMixtureSampler])
def test_codes_that_coincide_are_drawn_again(member):
    mu = torch.ones(30, 3)
    z = member().fit(Codes(mu)).sample(20, seeded())
    assert torch.isfinite(z).all()
    assert (z - 1).abs().max() < 1e-3


@pytest.mark.parametrize(("member", "least"), [(LocalSampler, 3), (FineMixtureSampler, 2)])
def test_too_few_codes_are_refused_and_the_fewest_are_enough(member, least):
    with pytest.raises(ValueError, match=f"needs {least} codes or more, got 1"):
        member().fit(Codes(torch.randn(1, 2, generator=seeded())))
    assert member().fit(Codes(torch.randn(least, 2, generator=seeded()))).sample(5, seeded()).shape == (5, 2)


def test_a_scale_that_cannot_be_found_warns():
    line = torch.linspace(0, 1, 40)[:, None].repeat(1, 2)
    with pytest.warns(UserWarning, match=r"no scale of the bumps gives draws the novelty 1000"):
        LocalSampler(novelty=1000.0).fit(Codes(line))


def test_wrong_options_and_points_are_refused():
    with pytest.raises(ValueError, match=r"`centre` must lie in \[0, 1\], got 1.5"):
        LocalSampler(centre=1.5)
    with pytest.raises(ValueError, match="`shape` must be one of neighbours, posterior, both, isotropic, got 'round'"):
        LocalSampler("round")
    with pytest.raises(ValueError, match=r"`codes.log_var` is needed"):
        LocalSampler("posterior").fit(Codes(clusters(20)))
    with pytest.raises(ValueError, match=r"`z` must have shape \(n, 4\), got \(3, 2\)"):
        LocalSampler().fit(Codes(clusters(20))).log_density(torch.zeros(3, 2))


def test_k_nearest_are_those_of_all_distances(generator):
    x, y = torch.randn(50, 3, generator=generator), torch.randn(90, 3, generator=generator)
    assert torch.equal(k_nearest(x, y, 4), torch.cdist(x, y).topk(4, largest=False).indices)
    own = k_nearest(y, y, 2, exclude=torch.arange(90))
    assert torch.equal(own, torch.cdist(y, y).fill_diagonal_(math.inf).topk(2, largest=False).indices)
    with pytest.raises(ValueError, match=r"`k` must lie in 1..89, the rows of `reference`, got 90"):
        k_nearest(y, y, 90, exclude=torch.arange(90))
