"""What every sampler promises: shapes, seeds, untouched global state, clear errors; and what each is for."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from geovae.codes import Codes
from geovae.samplers import SAMPLERS, MixtureSampler, RiemannianSampler
from geovae.samplers.base import Novelty
from geovae.samplers.riemannian import PRESETS

# Options of a quick run; a sampler without an entry must be quick by default.
QUICK = {"riemannian": {"n_centroids": 20, "n_transitions": 5}, "rhvae": {"n_transitions": 5}}


def make_codes(n=150, d=3, seed=0, log_var=-4.0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    mu = torch.randn(n, d, generator=g) + 3 * torch.randint(2, (n, 1), generator=g)
    log_var = log_var + 0.3 * torch.randn(n, d, generator=g)
    extras = {"prior.mu": mu[:9], "prior.log_var": log_var[:9], "metric.centroids": mu[:30]}
    extras |= {"metric.values": torch.diag_embed(log_var[:30].exp()), "metric.temperature": torch.tensor(0.8)}
    extras["metric.floor"] = torch.tensor(1e-3)
    return Codes(mu.to(dtype), log_var.to(dtype), extras)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=SAMPLERS)
def sampler(request):
    return SAMPLERS[request.param](**QUICK.get(request.param, {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_type_and_finite_values(sampler, dtype, device):
    codes = make_codes()
    codes = Codes(codes.mu.to(device, dtype), codes.log_var.to(device, dtype), codes.extras)
    z, info = sampler.fit(codes).sample(70, seeded(), return_info=True)
    assert z.shape == (70, 3)
    assert z.dtype == dtype
    assert z.device.type == device.type
    assert torch.isfinite(z).all()
    scalars = info.scalars()
    assert set(scalars) == set(sampler.diagnostics), "each number has its row on the page of names, and the reverse"
    assert all(type(v) is float and math.isfinite(v) for v in scalars.values())


def test_same_seed_same_draw_with_and_without_info(sampler):
    sampler.fit(make_codes())
    first = sampler.sample(40, seeded(1))
    assert torch.equal(first, sampler.sample(40, seeded(1)))
    assert torch.equal(first, sampler.sample(40, seeded(1), return_info=True)[0])
    assert not torch.equal(first, sampler.sample(40, seeded(2)))


def test_global_random_state_is_untouched(sampler):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    sampler.fit(make_codes()).sample(10, seeded(), return_info=True)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_not_fitted_no_samples_and_broken_codes(sampler):
    with pytest.raises(ValueError, match=r"call `fit\(codes\)` before `sample`"):
        sampler.sample(1, seeded())
    with pytest.raises(ValueError, match="must be finite, got NaN"):
        sampler.fit(Codes(torch.full((150, 2), math.nan), torch.zeros(150, 2)))
    sampler.fit(make_codes())
    with pytest.raises(ValueError, match="`n` must be a whole number of at least 1, got 0"):
        sampler.sample(0, seeded())


def test_what_is_missing_is_named_and_what_is_not_needed_may_be_missing(sampler):
    codes = make_codes()
    needed = {name: codes.extras[name] for name in sampler.needs}
    log_var = codes.log_var if sampler.needs_log_var else None
    assert sampler.fit(Codes(codes.mu, log_var, needed)).sample(5, seeded()).shape == (5, 3)
    if sampler.needs_log_var:
        with pytest.raises(ValueError, match="deterministic encoder"):
            sampler.fit(Codes(codes.mu, None, needed))
    for name in sampler.needs:
        with pytest.raises(ValueError, match=f"needs '{name}' of the model that made the codes"):
            sampler.fit(Codes(codes.mu, log_var, {key: value for key, value in needed.items() if key != name}))


def test_recorded_options_build_the_same_sampler(sampler):
    again = type(sampler)(**sampler.options)
    assert again.options == sampler.options
    assert torch.equal(*(s.fit(make_codes()).sample(20, seeded()) for s in (sampler, again)))


def test_prior_moments():
    z = SAMPLERS["prior"]().fit(make_codes()).sample(20_000, seeded())
    assert z.mean(0).abs().max() < 0.03
    assert (z.T.cov() - torch.eye(3)).abs().max() < 0.05


def test_mixture_has_the_moments_of_the_codes_and_no_order():
    codes = make_codes(2000)
    z = MixtureSampler(n_components=2).fit(codes).sample(20_000, seeded())
    torch.testing.assert_close(z.mean(0), codes.mu.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(z.T.cov(), codes.mu.T.cov(), rtol=0.1, atol=0.1)
    first, second = z[:10_000].mean(0), z[10_000:].mean(0)
    assert (first - second).abs().max() < 0.2


def test_mixture_takes_fewer_components_for_few_codes():
    few = Codes(torch.randn(9, 3, generator=seeded()))
    _, info = MixtureSampler().fit(few).sample(5, seeded(), return_info=True)
    assert info.scalars()["n_components"] == 2
    with pytest.raises(ValueError, match="needs 2 codes or more, got 1"):
        MixtureSampler().fit(Codes(torch.zeros(1, 3)))


def test_riemannian_info_has_every_diagnostic():
    z, info = RiemannianSampler(preset=None, n_centroids=20).fit(make_codes()).sample(60, seeded(), return_info=True)
    expected = {
        "acceptance", "divergences", "energy", "e_bfmi", "r_hat", "nested_r_hat", "ess_bulk", "ess_tail",
        "codes_above_floor", "samples_above_floor", "distance_to_start", "distance_to_start_ratio",
        "nearest_code", "nearest_code_ratio", "step_size", "temperature", "jump_acceptance", "log_density",
    }  # fmt: skip
    assert expected <= set(info.scalars())
    assert 0.6 < info.scalars()["acceptance"] < 0.95
    assert info.scalars()["codes_above_floor"] > 0.7
    assert info.chains["moved"].shape == (60,)
    assert z.shape == (60, 3)


def test_results_do_not_depend_on_the_metric_chunks():
    sampler = RiemannianSampler(preset=None, n_centroids=20, n_transitions=8).fit(make_codes(dtype=torch.float64))
    whole = sampler.sample(200, seeded())
    sampler.metric.chunk_elements = 50
    torch.testing.assert_close(sampler.sample(200, seeded()), whole, rtol=0, atol=1e-5)  # rounding, grown by 80 steps


@pytest.mark.parametrize("preset", PRESETS)
def test_a_given_option_wins_over_the_preset_even_where_it_equals_the_default(preset):
    defaults, published = RiemannianSampler(preset=None).options, RiemannianSampler(preset=preset).options
    changed = [name for name in defaults if defaults[name] != published[name] and defaults[name] is not None]
    assert {"n_transitions", "mass", "start", "temperature", "temperature_scale"} <= set(changed)
    for name in changed:
        given = RiemannianSampler(preset=preset, **{name: defaults[name]}).options
        assert given[name] == defaults[name]
        kept = set(given) - {name} - ({"n_centroids"} if name == "centroids" else set())  # all codes: no number
        assert {key: given[key] for key in kept} == {key: published[key] for key in kept}


@pytest.mark.filterwarnings("ignore::UserWarning")  # the published recipe is blind on so few codes
@pytest.mark.parametrize(
    "options",
    [
        *({"preset": None} | o for o in ({}, {"centroids": "all"}, {"n_centroids": 9})),
        *({"preset": p, "n_transitions": 4} for p in PRESETS),
    ],
)
def test_resolved_presets_build_the_same_sampler(options):
    codes = make_codes()
    sampler = RiemannianSampler(**options)
    again = RiemannianSampler(**sampler.options)
    assert again.options == sampler.options
    draws = [s.fit(codes).sample(20, seeded(), return_info=True) for s in (sampler, again)]
    assert torch.equal(draws[0][0], draws[1][0])
    assert draws[0][1].scalars() == draws[1][1].scalars()
    without = RiemannianSampler(**(sampler.options | {"preset": None}))  # the values alone are enough
    assert torch.equal(without.fit(codes).sample(20, seeded()), draws[0][0])


def test_sharp_posteriors_warn_under_the_published_rule_and_not_under_ours():
    codes = make_codes(400, 8, log_var=-9.0)
    with pytest.warns(UserWarning, match="of the codes lie above the floor"):
        RiemannianSampler(preset=None, temperature="published", n_centroids=40).fit(codes)
    for centroids in ("kmeans", "all"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fitted = RiemannianSampler(preset=None, centroids=centroids, n_centroids=40).fit(codes)
        assert fitted.fraction_above_floor > 0.8


def test_a_sampler_that_stays_where_it_started_says_so():
    sampler = RiemannianSampler(preset=None, n_centroids=20, n_transitions=4, step_size=1e-6).fit(make_codes())
    with pytest.warns(UserWarning, match="the samples are training codes"):
        sampler.sample(20, seeded(), return_info=True)


def test_starts_can_be_given_or_be_centroids():
    sampler = RiemannianSampler(preset=None, n_centroids=20, n_transitions=0, step_size=0.1, start="centroids").fit(
        make_codes()
    )
    z = sampler.sample(30, seeded())
    assert (z.unsqueeze(1) == sampler.metric.centroids).all(2).any(1).all()
    given = torch.randn(11, 3, generator=seeded())
    assert torch.equal(sampler.sample_from(given, seeded()), given)
    with pytest.raises(ValueError, match=r"`start` must have shape \(n, 3\)"):
        sampler.sample_from(torch.zeros(4, 2), seeded())
    with pytest.raises(ValueError, match="`start` must be finite, got NaN"):
        sampler.sample_from(torch.full((4, 3), math.nan), seeded())


def test_jumps_are_counted():
    sampler = RiemannianSampler(preset=None, n_centroids=20, n_transitions=6, n_jumps=2).fit(make_codes())
    assert sampler.sample(30, seeded(), return_info=True)[1].scalars()["jump_acceptance"] > 0


@pytest.mark.parametrize("n", [2, 3])
def test_a_handful_of_codes_is_enough(n):
    sampler = RiemannianSampler(preset=None, centroids="all", n_transitions=5).fit(make_codes(n))
    assert torch.isfinite(sampler.sample(10, seeded())).all()


@pytest.mark.parametrize("log_var", [-25.0, 0.0, 25.0])
def test_any_sane_variance_gives_finite_samples(log_var):
    codes = make_codes(log_var=log_var)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        z = RiemannianSampler(preset=None, n_centroids=20, n_transitions=5).fit(codes).sample(20, seeded())
    assert torch.isfinite(z).all()


@pytest.mark.parametrize(
    ("codes", "options", "message"),
    [
        (make_codes(1), {"centroids": "all"}, "needs 2 codes or more, got 1"),
        (make_codes(1), {"centroids": "all", "temperature": "published"}, "needs 2 centroids or more"),
        (
            Codes(torch.zeros(50, 2), torch.zeros(50, 2)),
            {"n_centroids": 5},
            "codes coincide; give",
        ),
        (Codes(torch.zeros(50, 2), torch.zeros(50, 2)), {"centroids": "all"}, "coincide"),
        (make_codes(log_var=1e3), {}, "got a magnitude of 100"),
        (Codes(torch.zeros(9, 2), torch.zeros(9, 3)), {}, r"must have shape \(9, 2\), got \(9, 3\)"),
    ],
)
def test_bad_codes_are_named(codes, options, message):
    with pytest.raises(ValueError, match=message):
        RiemannianSampler(**{"preset": None} | options).fit(codes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "best"}, "`preset` must be one of published, published-code, got 'best'"),
        ({"centroids": "grid"}, "`centroids` must be one of kmeans"),
        ({"n_centroids": 0}, "`n_centroids` must be a whole number of at least 1, got 0"),
        ({"temperature": 0.0}, "`temperature` must be positive and finite, got 0.0"),
        ({"temperature": -2}, "`temperature` must be positive and finite, got -2"),
        ({"temperature": "median"}, "`temperature` must be one of coverage, likelihood, published"),
        ({"temperature_scale": 0.0}, "`temperature_scale` must be positive"),
        ({"coverage": 1.5}, r"`coverage` must lie in \(0, 1\]"),
        ({"floor": -1.0}, "`floor` must be positive"),
        ({"decay": -1.0}, "`decay` must be 0 or more"),
        ({"sharpness": math.nan}, "`sharpness` must be positive and finite, got nan"),
        ({"start": "origin"}, "`start` must be one of covered, codes, centroids"),
        ({"n_transitions": -1}, "`n_transitions` must be a whole number of at least 0"),
        ({"n_leapfrog": 0}, "`n_leapfrog` must be a whole number of at least 1"),
        ({"step_size": 0.0}, "`step_size` must be positive"),
        ({"target_acceptance": 1.0}, r"`target_acceptance` must lie in \(0, 1\)"),
        ({"mass": "full"}, "`mass` must be one of posterior, unit"),
        ({"n_jumps": -1}, "`n_jumps` must be a whole number of at least 0"),
        ({"seed": -1}, r"`seed` must be a whole number in \[0, 2\^32\), got -1"),
        ({"seed": 2**32}, r"`seed` must be a whole number in \[0, 2\^32\), got 4294967296"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RiemannianSampler(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "`n_components` must be a whole number of at least 1, got 0"),
        ({"n_init": 0}, "`n_init` must be a whole number of at least 1, got 0"),
        ({"seed": -1}, r"`seed` must be a whole number in \[0, 2\^32\), got -1"),
    ],
)
def test_bad_mixture_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MixtureSampler(**options)


def test_novelty_is_one_for_fresh_draws_and_zero_for_copies():
    g = seeded()
    mu, fresh = torch.randn(2000, 4, generator=g), torch.randn(2000, 4, generator=g)
    assert Novelty(mu).scalars(fresh)["nearest_code_ratio"] == pytest.approx(1, abs=0.05)
    assert Novelty(mu).scalars(mu[:100])["nearest_code_ratio"] < 1e-3
    assert Novelty(mu, held_out=fresh).scalars(fresh)["nearest_code_ratio"] == pytest.approx(1)


def test_vamp_draws_from_the_mixture_of_its_pseudo_inputs():
    mu = torch.tensor([[-3.0, 0.0], [5.0, 1.0]])
    log_var = torch.tensor([[-2.0, 0.0], [0.0, -4.0]])
    codes = Codes(torch.randn(50, 2, generator=seeded()), None, {"prior.mu": mu, "prior.log_var": log_var})
    z = SAMPLERS["vamp"]().fit(codes).sample(40_000, seeded())
    left = z[:, 0] < 0
    assert float(left.float().mean()) == pytest.approx(0.5, abs=0.01)
    near = z[left & (z[:, 0] > -6)]
    torch.testing.assert_close(near.mean(0), mu[0], rtol=0, atol=0.03)
    torch.testing.assert_close(z.mean(0), mu.mean(0), rtol=0, atol=0.1)
    variance = log_var.exp().mean(0) + mu.var(0, correction=0)
    torch.testing.assert_close(z.var(0), variance, rtol=0.03, atol=0)


def test_vamp_refuses_codes_without_a_prior():
    with pytest.raises(ValueError, match="VampSampler needs 'prior.mu' of the model that made the codes"):
        SAMPLERS["vamp"]().fit(Codes(make_codes().mu))


def test_rhvae_draws_from_the_inverse_volume_of_its_metric():
    """One centroid with V = v I: the density v w(z) + floor to the power d / 2; here its radius in closed form."""
    d, v, floor, rho = 2, 1.0, 1e-9, 0.8
    extras = {
        "metric.centroids": torch.zeros(1, d),
        "metric.values": v * torch.eye(d).unsqueeze(0),
        "metric.temperature": torch.tensor(rho),
        "metric.floor": torch.tensor(floor),
    }
    sampler = SAMPLERS["rhvae"](n_transitions=30).fit(Codes(torch.randn(20, d, generator=seeded()), None, extras))
    z = sampler.sample(4000, seeded())
    # (w^d)^(1/2) = exp(-d |z|^2 / (2 rho^2)): a Gaussian of variance rho^2 / d
    torch.testing.assert_close(z.var(0), torch.full((d,), rho**2 / d), rtol=0.1, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_transitions": -1}, "`n_transitions` must be a whole number of at least 0, got -1"),
        ({"n_leapfrog": 0}, "`n_leapfrog` must be a whole number of at least 1, got 0"),
        ({"step_size": 0.0}, "`step_size` must be positive and finite, got 0.0"),
        ({"target_acceptance": 1.0}, r"`target_acceptance` must lie in \(0, 1\), got 1.0"),
    ],
)
def test_rhvae_sampler_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SAMPLERS["rhvae"](**options)


def test_rhvae_sampler_refuses_codes_without_a_metric_and_untrained_models():
    with pytest.raises(ValueError, match="RHVAESampler needs 'metric.centroids' of the model that made the codes"):
        SAMPLERS["rhvae"]().fit(Codes(make_codes().mu))
    codes = make_codes()
    extras = {**codes.extras, "metric.values": torch.zeros(30, 3, 3)}
    with pytest.raises(ValueError, match="has no centroids: train the model for an epoch or more"):
        SAMPLERS["rhvae"]().fit(Codes(codes.mu, None, extras))


def test_no_chain_starts_on_the_floor_and_walks_away(generator):
    """Codes far from every centroid lie on the flat floor, where nothing holds a chain."""
    mu = torch.cat([torch.randn(300, 6, generator=generator), 40 + 5 * torch.randn(6, 6, generator=generator)])
    codes = Codes(mu, torch.full_like(mu, -4.0))
    options = {"preset": None, "centroids": "first", "n_centroids": 150, "temperature": 8.0}
    sampler = RiemannianSampler(**options).fit(codes)
    z, info = sampler.sample(2000, torch.Generator().manual_seed(1), return_info=True)
    assert sampler.fraction_above_floor < 1
    assert info.scalars()["samples_above_floor"] == 1
    assert z.norm(dim=1).max() < 15
    loose = RiemannianSampler(**options, start="codes").fit(codes)
    assert loose.sample(2000, torch.Generator().manual_seed(1)).norm(dim=1).max() > 40


def test_without_a_transition_the_samples_are_their_starting_points():
    sampler = RiemannianSampler(preset=None, n_centroids=20, n_transitions=0, start="codes").fit(make_codes())
    with pytest.warns(UserWarning, match="the samples are training codes"):
        z, info = sampler.sample(30, torch.Generator().manual_seed(0), return_info=True)
    assert info.scalars()["distance_to_start"] == 0
    assert (z[:, None] == make_codes().mu).all(2).any(1).all()


def test_posteriors_far_narrower_than_the_codes_are_computed_with_more_digits():
    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(60, 3, generator=generator)
    log_var = torch.where(torch.arange(60)[:, None] % 2 == 0, torch.tensor(-22.0), torch.tensor(-2.0)).expand(60, 3)
    sampler = RiemannianSampler(preset=None, temperature=3.0, step_size=1e-3).fit(Codes(mu, log_var.contiguous()))
    weights = sampler.metric.centroid_weights(mu.double()).diagonal()
    torch.testing.assert_close(weights, torch.ones(60, dtype=torch.float64), rtol=0, atol=1e-4)
    assert sampler.sample(5, generator).dtype == torch.float32
    wide = RiemannianSampler(preset=None, temperature=3.0, step_size=1e-3).fit(Codes(mu, torch.full_like(mu, -2.0)))
    assert wide.metric.centroids.dtype == torch.float32, "twice the time only where it is needed"


def test_all_codes_as_centroids_are_as_many_as_there_are():
    """A configuration that sets `n_centroids` for another choice of centroids must not refuse a small data set."""
    codes = Codes(torch.randn(10, 2, generator=torch.Generator().manual_seed(0)), torch.full((10, 2), -2.0))
    assert SAMPLERS["riemannian"](n_centroids=50).fit(codes).metric.k == 10
    sampler = SAMPLERS["riemannian"](preset=None, centroids="all", n_centroids=50)
    assert sampler.fit(codes).metric.k == 10


def test_codes_that_stand_twice_are_no_obstacle(generator):
    mu = torch.randn(20, 2, generator=generator).repeat(2, 1)
    codes = Codes(mu, torch.full_like(mu, -4.0))
    z = SAMPLERS["riemannian"](n_centroids=30, n_transitions=2).fit(codes).sample(5, generator)
    assert z.isfinite().all()


@pytest.mark.parametrize("unit", [1e-5, 1e5])
def test_a_mixture_does_not_depend_on_the_unit_of_the_codes(unit, generator):
    mu = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    one, other = (MixtureSampler().fit(Codes(mu * scale)).sample(50, seeded(0)) for scale in (1.0, unit))
    torch.testing.assert_close(other / unit, one, rtol=1e-4, atol=1e-6)


def test_a_draw_from_codes_that_all_stand_twice_is_described(generator):
    codes = torch.randn(5, 4, generator=generator).repeat(40, 1)
    sampler = RiemannianSampler().fit(Codes(codes, torch.full_like(codes, -3.0)))
    _, info = sampler.sample(10, seeded(0), return_info=True)
    assert info.scalars()["distance_to_start_ratio"] == math.inf  # their distance to one another is 0


MEMORY = """
import resource, sys, torch
from geovae.codes import Codes
from geovae.samplers import SAMPLERS
mu = torch.randn(30_000, 16, generator=torch.Generator().manual_seed(0))
codes = Codes(mu, torch.full_like(mu, -3.0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in ("local", "riemannian"):
    SAMPLERS[name]().fit(codes)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""


@pytest.mark.slow  # 30,000 codes
def test_many_codes_need_little_memory():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5  # GiB
