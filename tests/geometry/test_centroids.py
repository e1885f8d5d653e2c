"""Centroids without duplicates, temperatures on the distances that count, and coverage that is really measured."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geovae.codes import Codes
from geovae.geometry import (
    CENTROIDS,
    LatentMetric,
    check_codes,
    choose_centroids,
    coverage_temperature,
    fraction_above_floor,
    likelihood_temperature,
    published_temperature,
)
from geovae.geometry.centroids import snap
from geovae.geometry.temperature import nearest_distances


def clouds(n_each=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    middles = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0], [6.0, 6.0]])
    return torch.cat([m + 0.3 * torch.randn(n_each, 2, generator=g) for m in middles])


@pytest.mark.parametrize("method", CENTROIDS)
def test_every_choice_is_distinct_and_seeded(method):
    codes = Codes(clouds())
    chosen = choose_centroids(codes, method, 12, seed=3)
    assert len(chosen) == (160 if method == "all" else 12)
    assert len(set(chosen.tolist())) == len(chosen)
    assert torch.equal(chosen, choose_centroids(codes, method, 12, seed=3))


@pytest.mark.parametrize("method", ["kmeans", "published"])
def test_clustering_finds_one_centroid_a_cloud(method):
    chosen = choose_centroids(Codes(clouds()), method, 4)
    assert sorted((chosen // 40).tolist()) == [0, 1, 2, 3]


def test_published_medoids_are_a_fixed_point_of_the_alternation():
    points = clouds().double()
    chosen = choose_centroids(Codes(points), "published", 4)
    labels = torch.cdist(points, points[chosen]).argmin(1)
    for i, medoid in enumerate(chosen.tolist()):
        members = torch.nonzero(labels == i).squeeze(1)
        costs = torch.cdist(points[members], points[members]).sum(1)
        assert members[costs.argmin()] == medoid


@given(n=st.integers(5, 30), k=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_snap_never_takes_a_point_twice(n, k, seed):
    g = torch.Generator().manual_seed(seed)
    points = torch.randn(n, 2, generator=g).double()
    centres = points[torch.randint(2, (k,), generator=g)]  # often the same
    assert len(set(snap(centres, points).tolist())) == k


def test_nearest_distances_against_a_loop():
    g = torch.Generator().manual_seed(0)
    z, c = torch.randn(20, 3, generator=g), torch.randn(6, 3, generator=g)
    v = torch.rand(6, 3, generator=g) + 0.1
    exclude = torch.full((20,), -1)
    exclude[2] = 4
    found = nearest_distances(z, c, v, exclude=exclude)
    for i in range(20):
        squares = [((z[i] - c[j]) ** 2 * v[j]).sum() for j in range(6) if j != exclude[i]]
        assert float(found[i]) == pytest.approx(math.sqrt(min(squares)), rel=1e-4)


def test_published_medoids_are_distinct_where_codes_repeat():
    points = torch.cat([torch.zeros(20, 2), torch.tensor([[5.0, 0.0], [0.0, 6.0], [-7.0, 0.0]])])
    chosen = choose_centroids(Codes(points), "published", 4)
    assert sorted(points[chosen].tolist()) == [[-7.0, 0.0], [0.0, 0.0], [0.0, 6.0], [5.0, 0.0]]


def test_published_rule_by_hand():
    assert published_temperature(torch.tensor([[0.0, 0.0], [1.0, 0.0], [4.0, 0.0]])) == pytest.approx(3.0)


def test_coverage_covers_that_share_of_the_codes():
    codes, sigma = clouds(), 0.02
    chosen = choose_centroids(Codes(codes), "kmeans", 10)
    values = torch.full((10, 2), sigma**-2)
    rho = coverage_temperature(codes, codes[chosen], values, coverage=0.8)
    metric = LatentMetric(codes[chosen], values, temperature=rho, floor=0.01)
    largest = metric.centroid_weights(codes).max(1).values
    assert float((largest >= math.exp(-1) * 0.999).float().mean()) == pytest.approx(0.8, abs=0.01)
    assert fraction_above_floor(metric, codes) > 0.95


def test_the_published_rule_leaves_sharp_posteriors_on_the_floor():
    codes = clouds()
    chosen = choose_centroids(Codes(codes), "kmeans", 10)
    values = torch.full((10, 2), 0.002**-2)
    exclude = torch.full((160,), -1)
    exclude[chosen] = torch.arange(10)
    metric = LatentMetric(codes[chosen], values, temperature=published_temperature(codes[chosen]), floor=0.01)
    assert fraction_above_floor(metric, codes, exclude=exclude) < 0.1
    # A centroid sees itself: without leaving it out the share would be flattered.
    assert fraction_above_floor(metric, codes[chosen]) == 1.0
    assert fraction_above_floor(metric, codes[chosen], exclude=torch.arange(10)) < 0.2


@pytest.mark.parametrize("sharpness", [1.0, 0.5])
def test_likelihood_temperature_finds_the_bandwidth_that_made_the_codes(sharpness):
    """Codes drawn from N(c_i, s^2 Sigma_i), s = rho / sqrt(d sharpness): the rule must return about that rho."""
    g = torch.Generator().manual_seed(0)
    c = 10 * torch.randn(30, 4, generator=g)
    sigma = 0.05 + 0.1 * torch.rand(30, 4, generator=g)
    index = torch.randint(30, (2000,), generator=g)
    z = c[index] + 3.0 * sigma[index] * torch.randn(2000, 4, generator=g)
    rho = likelihood_temperature(z, c, sigma**-2, sharpness=sharpness)
    assert rho / math.sqrt(4 * sharpness) == pytest.approx(3.0, rel=0.1)


def test_numbers_do_not_depend_on_the_unit_of_the_codes():
    """Mahalanobis rules give the same rho for codes and deviations both ten times larger."""
    codes, values = clouds(), torch.full((160, 2), 25.0)
    chosen = choose_centroids(Codes(codes), "first", 50)
    small = coverage_temperature(codes, codes[chosen], values[chosen], coverage=0.5)
    large = coverage_temperature(10 * codes, 10 * codes[chosen], values[chosen] / 100, coverage=0.5)
    assert small == pytest.approx(large, rel=1e-5)


@pytest.mark.parametrize(
    ("mu", "log_var", "message"),
    [
        (torch.zeros(3), None, r"non-empty \(n, d\) floats"),
        (torch.zeros(0, 2), None, "non-empty"),
        (torch.zeros(3, 2, dtype=torch.long), None, "floats"),
        (torch.full((3, 2), math.nan), None, "`codes.mu` must be finite"),
        (torch.zeros(3, 2), torch.zeros(3, 3), r"`codes.log_var` must have shape \(3, 2\), got \(3, 3\)"),
        (torch.zeros(3, 2), torch.full((3, 2), 1e3), "got a magnitude of 1000"),
        (torch.zeros(3, 2), torch.full((3, 2), -math.inf), "a variance of 0 or infinity"),
        (torch.zeros(3, 2), torch.full((3, 2), math.nan), "`codes.log_var` must lie in"),
        (torch.zeros(3, 2), None, "deterministic encoder"),
    ],
)
def test_bad_codes_are_named(mu, log_var, message):
    with pytest.raises(ValueError, match=message):
        check_codes(Codes(mu, log_var), need_log_var=True)


def test_bad_choices_are_named():
    codes = Codes(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="`method` must be one of all, kmeans"):
        choose_centroids(codes, "grid", 2)
    for k in (0, 6):
        with pytest.raises(ValueError, match=rf"`n_centroids` must lie in 1..5 \(there are 5 codes\), got {k}"):
            choose_centroids(codes, "random", k)
    with pytest.raises(ValueError, match="as many distinct codes, got 1 among 5"):
        choose_centroids(codes, "kmeans", 2)


def test_bad_temperatures_are_named():
    same, ones = torch.zeros(5, 2), torch.ones(5, 2)
    with pytest.raises(ValueError, match="needs 2 centroids or more, got 1"):
        published_temperature(same[:1])
    with pytest.raises(ValueError, match="centroids or codes coincide"):
        published_temperature(same)
    with pytest.raises(ValueError, match="centroids or codes coincide"):
        coverage_temperature(same, same, ones, coverage=0.5)
    with pytest.raises(ValueError, match="needs 2 codes or more"):
        coverage_temperature(same[:1], same[:1], ones[:1], coverage=0.5, exclude=torch.tensor([0]))
    with pytest.raises(ValueError, match=r"`coverage` must lie in \(0, 1\], got 0"):
        coverage_temperature(same, same, ones, coverage=0)


def test_global_random_state_is_untouched():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is what is watched
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    choose_centroids(Codes(clouds()), "kmeans", 5)
    choose_centroids(Codes(clouds()), "random", 5)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
