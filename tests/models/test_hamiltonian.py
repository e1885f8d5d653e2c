"""HVAE and RHVAE: the leapfrog's physics, tempering that counts, the metric, and divergence that is named."""

import math

import pytest
import torch
from torch import Generator

from geovae.codes import encode_images
from geovae.geometry.metric import LatentMetric
from geovae.models import build_model
from geovae.models.cometric import Cometric
from geovae.saved_model import load_model, save_model
from geovae.training import Trainer

SHAPE = (1, 4, 4)
D = 3


def generator(seed=0):
    return Generator().manual_seed(seed)


def build(name, **options):
    return build_model(name, SHAPE, **{"network": "mlp", "width": 16, "latent_dim": D, **options}).double()


@pytest.fixture
def x():
    return torch.rand(5, *SHAPE, generator=generator(1), dtype=torch.float64)


@pytest.mark.parametrize("name", ["hvae", "rhvae"])
@pytest.mark.parametrize(
    "change",
    [{"beta_zero": 0.6}, {"n_leapfrog": 3}, {"step_size": 0.09}, {"beta": 0.5}, {"likelihood": "bernoulli"}],
    ids=lambda change: next(iter(change)),
)
def test_every_option_enters_the_loss(name, change, x):
    options = {"beta_zero": 0.3, "n_leapfrog": 2, "step_size": 0.1, "likelihood": "gaussian"}
    base, other = (build(name, **o).loss(x, generator())["loss"] for o in (options, options | change))
    assert abs(float((base - other).detach())) > 1e-3


def test_free_tempering_starts_at_the_fixed_schedule_and_learns(x):
    options = {"n_leapfrog": 3, "step_size": 0.1, "beta_zero": 0.3}
    fixed, free = build("hvae", **options), build("hvae", tempering="free", learn_step_size=True, **options)
    torch.testing.assert_close(free.cooling().detach(), fixed.cooling(), rtol=1e-6, atol=0)
    assert float(fixed.cooling().prod()) == pytest.approx(math.sqrt(0.3), rel=1e-6)
    torch.testing.assert_close(free.loss(x, generator())["loss"], fixed.loss(x, generator())["loss"], rtol=1e-6, atol=0)
    free.loss(x, generator())["loss"].backward()
    assert (free.ratio_logits.grad != 0).all()
    assert free.step_logit.grad != 0


@pytest.mark.parametrize("name", ["hvae", "rhvae"])
def test_without_tempering_and_steps_it_is_a_vae_on_average(name, x):
    """As the step goes to 0 the momentum's cost vanishes, and what is left is one draw of the VAE's bound."""
    model = build(name, step_size=1e-9, beta_zero=1.0, likelihood="gaussian")
    end = model.flow(x, model.encode(x), generator())
    torch.testing.assert_close(end.kinetic, torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(end.end, end.start, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["hvae", "rhvae"])
def test_the_energy_error_falls_with_the_square_of_the_step(name, x):
    def error(step_size, n_leapfrog):
        options = {"floor": 0.5, "n_fixed_point": 20} if name == "rhvae" else {}
        model = build(name, step_size=step_size, n_leapfrog=n_leapfrog, beta_zero=1.0, likelihood="gaussian", **options)
        end = model.flow(x, model.encode(x), generator())
        before = model.errors(x, end.start) + 0.5 * end.start.square().sum(1)
        after = end.errors + 0.5 * end.end.square().sum(1)
        return (after - before + end.kinetic).detach().abs().max()

    assert float(error(0.004, 10) / error(0.002, 20)) == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("name", ["hvae", "rhvae"])
def test_the_gradient_without_forces_is_close_for_a_small_step(name, x):
    grads = []
    for through_force in (True, False):
        model = build(name, step_size=1e-3, through_force=through_force)
        model.loss(x, generator())["loss"].backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    difference = float((grads[0] - grads[1]).norm() / grads[0].norm())
    assert 0 < difference < 1e-3


@pytest.mark.parametrize("name", ["hvae", "rhvae"])
def test_the_exact_gradient_is_that_of_the_bound(name, x):
    """Central differences of the loss in one weight of the decoder, all noise kept."""
    model = build(name, step_size=0.2, n_leapfrog=2, through_force=True)
    model.loss(x, generator())["loss"].backward()
    weight = model.decoder.body[0].weight
    values = []
    for h in (1e-5, -1e-5):
        with torch.no_grad():
            weight[0, 0] += h
            values.append(float(model.loss(x, generator())["loss"]))
            weight[0, 0] -= h
    assert float(weight.grad[0, 0]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def random_metric(k=7, dtype=torch.float64):
    g = generator(4)
    centroids = torch.randn(k, D, generator=g, dtype=dtype)
    factors = torch.randn(k, D, D, generator=g, dtype=dtype).tril()
    return centroids, factors @ factors.mT


def test_the_metric_is_the_librarys_cometric():
    centroids, values = random_metric()
    ours = Cometric(centroids, values, 0.9, 0.2)
    theirs = LatentMetric(centroids, values, temperature=0.9, floor=0.2, weights="euclidean", tensor="cometric")
    z = torch.randn(11, D, generator=generator(), dtype=torch.float64)
    place = ours.at(z)
    torch.testing.assert_close(place.tensor, theirs.cometric_matrix(z))
    torch.testing.assert_close(place.inverse, theirs.metric_matrix(z))
    torch.testing.assert_close(-0.5 * place.log_det(), theirs.log_volume(z))


def test_the_slope_is_the_gradient_of_the_kinetic_energy():
    metric = Cometric(*random_metric(), 0.9, 0.2)
    z = torch.randn(11, D, generator=generator(), dtype=torch.float64, requires_grad=True)
    rho = torch.randn(11, D, generator=generator(9), dtype=torch.float64)
    place = metric.at(z)
    energy = 0.5 * (rho * place.velocity(rho)).sum(1) - 0.5 * place.log_det()
    (expected,) = torch.autograd.grad(energy.sum(), z)
    torch.testing.assert_close(metric.slope(metric.at(z.detach()), rho), expected)


def test_momenta_have_the_covariance_of_the_metric():
    place = Cometric(*random_metric(), 0.9, 0.2).at(torch.zeros(1, D, dtype=torch.float64).expand(40_000, D))
    rho = place.momentum(torch.randn(40_000, D, generator=generator(), dtype=torch.float64))
    torch.testing.assert_close(rho.T.cov(), place.inverse[0], rtol=0.05, atol=0.02)


def test_the_metric_is_kept_with_the_weights(tmp_path):
    options = {"network": "mlp", "width": 16, "latent_dim": D, "n_centroids": 12}
    model = build_model("rhvae", SHAPE, **options)
    images = torch.rand(30, *SHAPE, generator=generator(1))
    trainer = Trainer(epochs=2, batch_size=10)
    state = trainer.start(model)
    list(trainer.run(state, images, images[:10]))
    state.load_best()
    path = save_model(
        tmp_path / "m.safetensors", model, encode_images(model, images), name="rhvae", options=options,
        image_shape=SHAPE,
    )  # fmt: skip
    loaded = load_model(path)
    assert model.values.diagonal(dim1=1, dim2=2).min() > 0
    for name in ("metric.centroids", "metric.values", "metric.temperature", "metric.floor"):
        assert torch.equal(loaded.codes.extras[name], model.latent_tensors()[name])
    with torch.no_grad():
        ours, theirs = (m.loss(images, generator())["loss"] for m in (model, loaded.model))
    assert torch.equal(ours, theirs)


def test_more_centroids_than_images_leave_slots_that_add_nothing(x):
    few, many = (build("rhvae", n_centroids=k).eval() for k in (5, 9))
    few.end_epoch(x), many.end_epoch(x)
    torch.testing.assert_close(few.loss(x, generator()), many.loss(x, generator()))


@pytest.mark.parametrize("name", ["hvae", "rhvae"])
def test_a_leapfrog_that_diverges_is_named(name, x):
    model = build(name, step_size=0.5, n_leapfrog=1)
    with torch.no_grad():
        model.encoder.heads[0].bias.fill_(math.inf)
    with pytest.raises(ValueError, match=r"the leapfrog diverged: the loss is nan; lower `step_size` \(now 0.5\)"):
        model.loss(x, generator())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_leapfrog": 0}, "`n_leapfrog` must be a whole number of at least 1, got 0"),
        ({"step_size": 0.0}, "`step_size` must be positive and finite, got 0.0"),
        ({"step_size": 0.6}, r"`step_size` must be at most 0.5 \(below it to be learnt\), got 0.6"),
        ({"step_size": 0.5, "learn_step_size": True}, r"`step_size` must be at most 0.5"),
        ({"beta_zero": 0.0}, r"`beta_zero` must lie in \(0, 1\], got 0.0"),
        ({"beta_zero": 1.0, "tempering": "free"}, "`beta_zero` must be below 1 to be learnt"),
        ({"tempering": "none"}, "`tempering` must be one of fixed, free, got 'none'"),
        ({"beta": 0.0}, "`beta` must be positive and finite, got 0.0"),
        ({"likelihood": "poisson"}, "`likelihood` must be one of gaussian, bernoulli, got 'poisson'"),
        ({"n_fixed_point": 0}, "`n_fixed_point` must be a whole number of at least 1, got 0"),
        ({"n_centroids": 0}, "`n_centroids` must be a whole number of at least 1, got 0"),
        ({"temperature": 0.0}, "`temperature` must be positive and finite, got 0.0"),
        ({"floor": -1.0}, "`floor` must be positive and finite, got -1.0"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        build_model("rhvae", SHAPE, network="mlp", **options)
