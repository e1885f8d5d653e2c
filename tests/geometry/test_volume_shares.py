"""The closed forms of docs/volume.md and docs/novelty.md against the metric, sums over tuples, and chains."""

import itertools
import math

import pytest
import torch

from geovae.codes import Codes
from geovae.geometry import LatentMetric
from geovae.samplers import RiemannianSampler
from geovae.samplers.chains import BumpMixture
from tools.volume_pictures import log_expected_mass, partitions, share


def points(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mass(metric, n=400_000):
    """Return the volume in units of a lone bump's, (2 pi rho^2 / d)^(d/2), by importance sampling from the bumps."""
    bumps, g = BumpMixture(metric, sharpness=1 / 2), torch.Generator().manual_seed(0)
    z = bumps.draw(torch.randint(metric.k, (n,), generator=g), points(n, metric.d, 1))
    weights = (metric.log_volume(z) - bumps.log_prob(z)).exp()
    return float(weights.mean()) / (2 * math.pi * metric.temperature**2 / metric.d) ** (metric.d / 2)


def tuple_sum(codes, width):
    """Return the sum over p-tuples of codes, p = d / 2, of exp(-scatter / width^2)."""
    tuples = list(itertools.product(range(len(codes)), repeat=codes.shape[1] // 2))
    chosen = codes[torch.tensor(tuples)]
    return float((-(chosen - chosen.mean(1, keepdim=True)).square().sum((1, 2)) / width**2).exp().sum())


@pytest.mark.parametrize("d", [2, 4, 8])
def test_bumps_apart_have_one_unit_each_whatever_their_variances(d):
    centroids = 1e3 * torch.arange(5).double()[:, None].expand(5, d)
    metric = LatentMetric(centroids, (3 * points(5, d)).exp(), temperature=1.7, floor=1e-30)
    assert mass(metric) == pytest.approx(5, rel=0.02)


@pytest.mark.parametrize("s", [0.5, 4.0])
def test_at_another_sharpness_narrow_or_wide_bumps_have_more(s):
    """A lone bump has |Sigma|^((1 - s) / 2) (2 pi rho^2 / (d s))^(d / 2)."""
    metric = LatentMetric(points(1, 4), points(1, 4, 1).exp(), temperature=1.3, floor=1e-30)
    bump = BumpMixture(metric, sharpness=s / 2)
    z = bump.draw(torch.zeros(400_000, dtype=torch.long), points(400_000, 4, 2))
    found = float((s * metric.log_volume(z) - bump.log_prob(z)).exp().mean())
    expected = float(metric.values.prod()) ** ((s - 1) / 2) * (2 * math.pi * 1.3**2 / (4 * s)) ** 2
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("d", [4, 6])
def test_overlapping_bumps_have_the_volume_of_their_tuples(d):
    codes, variances = points(8, d), torch.linspace(0.5, 2, d).double()
    metric = LatentMetric(codes * variances.sqrt(), (1 / variances).expand(8, d), temperature=2.0, floor=1e-30)
    assert mass(metric) == pytest.approx(tuple_sum(codes, 2.0), rel=0.02)


def test_in_two_dimensions_overlap_does_not_matter():
    metric = LatentMetric(0.1 * points(30, 2), torch.ones(30, 2).double(), temperature=2.0, floor=1e-30)
    assert mass(metric) == pytest.approx(30, rel=0.01)


@pytest.mark.parametrize("d", [2, 4, 10])
def test_coinciding_bumps_have_n_to_the_half_d(d):
    metric = LatentMetric(torch.ones(7, d).double(), torch.full((7, d), 3.0).double(), temperature=2.0, floor=1e-30)
    assert mass(metric) == pytest.approx(7 ** (d / 2), rel=0.02)


def test_overlap_never_takes_volume_away():
    """By Minkowski's inequality of determinants, sqrt det of a sum is at least the sum of the sqrt dets for d >= 2."""
    centroids, values, z = points(20, 6), points(20, 6, 1).exp(), points(100, 6, 2)
    together = LatentMetric(centroids, values, temperature=3.0, floor=1e-30).log_volume(z)
    alone = [
        LatentMetric(c[None], v[None], temperature=3.0, floor=1e-30).log_volume(z)
        for c, v in zip(centroids, values, strict=True)
    ]
    assert (together > torch.stack(alone).logsumexp(0)).all()


@pytest.mark.parametrize(("d", "n"), [(4, 12), (6, 9), (8, 6)])
def test_the_expected_volume_of_normal_codes_is_the_mean_of_tuple_sums(d, n):
    sums = torch.tensor([tuple_sum(0.6 * points(n, d, seed), 1.5) for seed in range(300)])
    standard_error = float(sums.std()) / math.sqrt(len(sums))
    assert math.exp(log_expected_mass(n, d, 0.4)) == pytest.approx(float(sums.mean()), abs=4 * standard_error)
    assert standard_error < 0.05 * float(sums.mean())


def test_many_codes_have_the_closed_form_of_the_page():
    d, n, spread = 16, 10**9, 0.9
    expected = d / 2 * math.log(n) - d / 2 * (d / 2 - 1) * math.log1p(2 * spread**2)
    assert log_expected_mass(n, d, spread) == pytest.approx(expected, abs=1e-5)


def test_partitions_and_shares():
    assert [len(list(partitions(p, p))) for p in range(1, 9)] == [1, 2, 3, 5, 7, 11, 15, 22]
    assert share(2, 1000, 0.15, 1.0) == pytest.approx(0.15, abs=2e-3)
    assert share(16, 1000, 0.15, 1.0) > 0.75


@pytest.mark.filterwarnings("ignore:only .* of the codes lie above the floor")
@pytest.mark.parametrize(("preset", "walked"), [("published", 1.0), ("published-code", 0.5)])
def test_on_the_floor_the_published_recipe_adds_a_normal_step_to_a_code(preset, walked):
    """The force is zero there: each transition moves by step x leapfrog steps x N(0, I), and a hundred add up.

    By the same in each dimension, whatever the posterior variances: the mass is 1.
    """
    mu = points(1000, 8).float()
    sampler = RiemannianSampler(preset=preset).fit(Codes(mu, torch.linspace(-16, -12, 8).expand(1000, 8)))
    start = mu[torch.cdist(mu, sampler.metric.centroids.to(mu)).min(1).values > 0.1]
    moved = sampler.sample_from(start, torch.Generator().manual_seed(1)) - start
    assert float(moved.std()) == pytest.approx(walked, rel=0.03)
    assert moved.std(0).tolist() == pytest.approx([walked] * 8, rel=0.1)
    assert float(moved.mean().abs()) < 0.05 * walked
