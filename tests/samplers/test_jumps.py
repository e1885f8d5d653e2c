"""Jumps leave the target invariant, mix between modes that HMC never joins, and draw what they say they draw."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import MixtureSameFamily, MultivariateNormal
from torch.distributions.categorical import Categorical

from geovae.geometry import LatentMetric
from geovae.samplers.chains import BumpMixture, Kernel, draw_jump, jump, run_chains
from geovae.samplers.hmc import Parameters, init_state, local_inverse_mass


def islands(decay=0.05, floor=1e-4):
    c = torch.tensor([[-4.0, 0.0], [4.0, 1.0], [0.0, 5.0], [3.0, -4.0]], dtype=torch.float64)
    values = torch.tensor([[4.0, 1.0], [1.0, 9.0], [2.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
    return LatentMetric(c, values, temperature=1.1, floor=floor, decay=decay)


def quadrature(metric, side=12.0, size=1200):
    """Return the cells of a grid and the exact probability of each."""
    axis = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 * side - side
    cells = torch.cartesian_prod(axis, axis)
    mass = metric.log_volume(cells).exp()
    return cells, mass / mass.sum(), 2 * side / size


def nearest(metric, z):
    return torch.cdist(z, metric.centroids).argmin(1)


def test_the_bump_density_is_that_of_an_independent_library():
    metric = islands()
    bumps = BumpMixture(metric, sharpness=1.7)
    variances = metric.temperature**2 / (metric.d * 1.7) / metric.values
    truth = MixtureSameFamily(
        Categorical(torch.ones(4).double()), MultivariateNormal(metric.centroids, torch.diag_embed(variances))
    )
    z = 3 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(bumps.log_prob(z), truth.log_prob(z))


def test_one_isolated_bump_is_the_gaussian_of_covariance_rho_squared_over_d_sigma(generator):
    """HMC on a single centroid reproduces N(c, rho^2 / d Sigma): the closed form behind the jumps."""
    values = torch.tensor([[4.0, 0.5, 1.0]], dtype=torch.float64)
    metric = LatentMetric(torch.ones(1, 3).double(), values, temperature=1.5, floor=1e-30)
    variances = 1.5**2 / 3 / values
    kernel = Kernel(metric.log_volume_and_grad, Parameters(0.5, 4, local_inverse_mass(variances)))
    z = run_chains(torch.ones(8000, 3).double(), kernel, 30, generator).position
    standard_error = 4 * math.sqrt(2 / 8000)
    assert (z.var(0) / variances[0]).tolist() == pytest.approx([1, 1, 1], abs=standard_error)
    assert all(stats.kstest(((z[:, j] - 1) / variances[0, j].sqrt()).numpy(), "norm").pvalue > 1e-3 for j in range(3))


def test_jumps_keep_exact_draws_exact(generator):
    metric = islands(floor=0.2)
    cells, mass, width = quadrature(metric)
    u = torch.rand(20_000, generator=generator, dtype=torch.float64)
    start = cells[torch.searchsorted(mass.cumsum(0), u).clamp(max=len(cells) - 1)]
    start = start + width * (torch.rand(20_000, 2, generator=generator, dtype=torch.float64) - 0.5)
    bumps, target = BumpMixture(metric), metric.log_volume_and_grad
    state, moved = init_state(start[:10_000], target), 0.0
    for _ in range(5):
        state, accepted = jump(state, *draw_jump(10_000, bumps, generator), target, bumps)
        moved += float(accepted.double().mean()) / 5
    assert 0.1 < moved < 0.95
    fresh = start[10_000:]
    p = [stats.ks_2samp(v(state.position), v(fresh)).pvalue for v in (lambda z: z[:, 0], lambda z: z[:, 1])]
    assert min(p) * 2 > 0.01


def test_jumps_reach_the_exact_occupancy_of_modes_from_one_start_and_hmc_does_not(generator):
    metric = islands()
    cells, mass, _ = quadrature(metric)
    exact = torch.zeros(4, dtype=torch.float64).index_add_(0, nearest(metric, cells), mass)
    start = metric.centroids[:1].expand(8000, 2)
    parameters = Parameters(0.3, 5, torch.ones(2).double())

    def occupancy(bumps):
        kernel = Kernel(metric.log_volume_and_grad, parameters, bumps, 1)
        z = run_chains(start, kernel, 15, generator).position
        return torch.bincount(nearest(metric, z), minlength=4) / 8000

    assert (occupancy(BumpMixture(metric)) - exact).abs().max() < 0.02
    assert (occupancy(None) - exact).abs().max() > 0.5


def test_bumps_need_a_closed_form():
    full = LatentMetric(torch.zeros(1, 2), torch.eye(2).unsqueeze(0), temperature=1.0, floor=0.1)
    with pytest.raises(ValueError, match="closed form only for a diagonal Mahalanobis metric"):
        BumpMixture(full)
