"""Every loss against NumPy float64: the formulas of the papers, written a second time and without torch."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from geovae.models import build_model
from geovae.models.ae import squared_jacobian_norm
from geovae.models.hvae import quadratic_ratios
from geovae.models.wae import squared_mmd

spec = importlib.util.spec_from_file_location("plain", Path(__file__).parent / "plain.py")
plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)

SHAPE = (1, 3, 4)
D = 3


def build(name, seed=0, **options):
    model = build_model(name, SHAPE, seed=seed, **{"network": "mlp", "width": 10, "latent_dim": D, **options})
    with torch.no_grad():  # weights at their start are so small that every image is grey
        for parameter in [*model.encoder.parameters(), *model.decoder.parameters()]:
            parameter.mul_(2)
    return model.double()


def generator(seed=5):
    return Generator().manual_seed(seed)


def normal(*shape, source):
    return torch.randn(shape, generator=source, dtype=torch.float64).numpy()


@pytest.fixture
def x():
    return torch.rand(6, *SHAPE, generator=generator(1), dtype=torch.float64)


def losses_of(model, x):
    return {name: float(value.detach()) for name, value in model.loss(x, generator()).items()}


def squared_error(model, x):
    mu = plain.encode(model, x.numpy())[0]
    return mu, plain.errors(model, x.numpy(), mu).mean()


def approx(expected, rel=1e-10):
    return pytest.approx(expected, rel=rel, abs=1e-12)


def test_ae(x):
    model = build("ae")
    assert losses_of(model, x)["loss"] == approx(squared_error(model, x)[1])


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_vae_is_equation_3(x, likelihood):
    model = build("vae", beta=0.3, likelihood=likelihood)
    mu, log_var = plain.encode(model, x.numpy())
    sd = np.exp(log_var / 2)
    error = plain.errors(model, x.numpy(), mu + sd * normal(6, D, source=generator())).mean()
    # KL(N(mu, s^2) || N(0, 1)) = log(1/s) + (s^2 + mu^2)/2 - 1/2, dimension by dimension
    kl = (np.log(1 / sd) + (sd**2 + mu**2) / 2 - 0.5).sum(1).mean()
    assert losses_of(model, x) == approx({"loss": error + 0.3 * kl, "reconstruction": error, "kl": kl})


@pytest.mark.parametrize("bandwidth", ["fixed", "median"])
def test_wae(x, bandwidth):
    model = build("wae", mmd_weight=7.0, bandwidth=bandwidth)
    mu, error = squared_error(model, x)
    p = normal(6, D, source=generator())
    pairs = sorted(((a - b) ** 2).sum() for a in mu for b in p)
    c = 2 * D if bandwidth == "fixed" else pairs[17]  # of 36, torch's lower median

    def k(u, v):
        return sum(s * c / (s * c + ((u - v) ** 2).sum()) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))

    within = sum(k(s[i], s[j]) for s in (mu, p) for i in range(6) for j in range(6) if i != j) / 30
    mmd = within - 2 * sum(k(a, b) for a in mu for b in p) / 36
    assert losses_of(model, x) == approx({"loss": error + 7 * mmd, "reconstruction": error, "mmd": mmd})


def test_mmd_is_0_for_the_prior_itself_on_average_and_grows_with_distance():
    draws = [torch.randn(2, 100, 3, generator=generator(s), dtype=torch.float64) for s in range(200)]
    same = torch.stack([squared_mmd(z, p) for z, p in draws])
    assert abs(float(same.mean())) < 3 * float(same.std()) / len(same) ** 0.5
    shifted = [float(squared_mmd(draws[0][0] + shift, draws[0][1])) for shift in (0.5, 1, 2)]
    assert shifted == sorted(shifted)
    assert shifted[0] > 5 * float(same.std())
    assert squared_mmd(draws[0][0][:1], draws[0][1][:1]).isfinite()


def test_rae(x):
    model = build("rae", embedding_weight=0.2)
    mu, error = squared_error(model, x)
    embedding = 0.5 * (mu**2).sum(1).mean()
    assert losses_of(model, x) == approx(
        {"loss": error + 0.2 * embedding, "reconstruction": error, "embedding": embedding}
    )


def test_rae_l2(x):
    model = build("rae_l2", embedding_weight=0.2, decay_weight=0.03)
    mu, error = squared_error(model, x)
    norm = sum((w**2).sum() + (b**2).sum() for w, b in plain.layers(model.decoder.body))
    found = losses_of(model, x)
    assert found["decoder_norm"] == approx(norm)
    assert found["loss"] == approx(error + 0.2 * 0.5 * (mu**2).sum(1).mean() + 0.03 * norm)


def test_rae_gp(x):
    model = build("rae_gp", embedding_weight=0.2, penalty_weight=0.03)
    mu, error = squared_error(model, x)
    signs = 2 * torch.randint(0, 2, (6, *SHAPE), generator=generator()).numpy().reshape(6, -1) - 1
    p = plain.decode(model, mu)
    penalty = (plain.pull_back(model, mu, signs * p * (1 - p)) ** 2).sum(1).mean()
    found = losses_of(model, x)
    assert found["gradient_penalty"] == approx(penalty)
    assert found["loss"] == approx(error + 0.2 * 0.5 * (mu**2).sum(1).mean() + 0.03 * penalty)


def test_the_gradient_penalty_is_the_jacobians_frobenius_norm_on_average(x):
    model = build("rae_gp")
    z = model.encode(x).mu
    jacobians = torch.autograd.functional.jacobian(lambda z: model.decode(z).sum(0), z).flatten(0, 2)
    exact = float(jacobians.square().sum()) / 6
    source = generator()
    found = torch.stack([squared_jacobian_norm(z, model.decode(z), source).detach() for _ in range(400)])
    assert float(found.mean()) == pytest.approx(exact, abs=4 * float(found.std()) / 20)


@pytest.mark.parametrize(("network", "width"), [("mlp", 12), ("conv32", 2)])
def test_rae_sn_divides_every_layer_by_its_largest_singular_value(network, width):
    model = build_model("rae_sn", (1, 32, 32), network=network, width=width, latent_dim=3)
    for _ in range(60):  # every training step is one power iteration
        model.decode(torch.randn(4, 3))
    model.eval()
    seen = 0
    for layer in model.decoder.body:
        if isinstance(layer, torch.nn.Linear | torch.nn.ConvTranspose2d):
            axis = 1 if isinstance(layer, torch.nn.ConvTranspose2d) else 0
            matrix = layer.weight.detach().movedim(axis, 0).flatten(1)
            assert float(torch.linalg.matrix_norm(matrix, 2)) == pytest.approx(1.0, abs=0.05)
            seen += 1
    assert seen == (3 if network == "mlp" else 4)


@pytest.mark.parametrize("pseudo_inputs", ["learnt", "data"])
def test_vamp(x, pseudo_inputs):
    model = build("vamp", beta=0.4, n_pseudo_inputs=5, pseudo_inputs=pseudo_inputs)
    mu, log_var = plain.encode(model, x.numpy())
    z = mu + np.exp(log_var / 2) * normal(6, D, source=generator())
    pseudo = plain.array(model.pseudo)
    means, log_vars = plain.encode(model, plain.sigmoid(pseudo) if pseudo_inputs == "learnt" else pseudo)

    def density(z, mu, log_var):
        return np.prod(np.exp(-((z - mu) ** 2) / (2 * np.exp(log_var))) / np.sqrt(2 * np.pi * np.exp(log_var)))

    prior = [np.mean([density(p, m, v) for m, v in zip(means, log_vars, strict=True)]) for p in z]
    posterior = [density(p, m, v) for p, m, v in zip(z, mu, log_var, strict=True)]
    kl = (np.log(posterior) - np.log(prior)).mean()
    error = plain.errors(model, x.numpy(), z).mean()
    assert losses_of(model, x) == approx({"loss": error + 0.4 * kl, "reconstruction": error, "kl": kl}, rel=1e-8)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("tempering", ["fixed", "free"])
def test_hvae(x, likelihood, tempering):
    options = {"beta": 0.5, "n_leapfrog": 2, "step_size": 0.1, "beta_zero": 0.4, "likelihood": likelihood}
    model = build("hvae", tempering=tempering, **options)
    if tempering == "free":
        ratios = plain.sigmoid(plain.array(model.ratio_logits))
    else:  # 1 / sqrt(beta_k) = (1 - 1 / sqrt(beta_0)) k^2 / K^2 + 1 / sqrt(beta_0)
        inverse = [(1 - 0.4**-0.5) * (k / 2) ** 2 + 0.4**-0.5 for k in range(3)]
        ratios = np.float32([inverse[1] / inverse[0], inverse[2] / inverse[1]]).astype(float)
    source, images = generator(), x.numpy()
    mu, log_var = plain.encode(model, images)
    z = mu + np.exp(log_var / 2) * normal(6, D, source=source)
    noise = normal(6, D, source=source)
    rho = noise / np.prod(ratios)
    for ratio in ratios:
        rho = rho - 0.05 * plain.force(model, images, z)
        z = z + 0.1 * rho
        rho = ratio * (rho - 0.05 * plain.force(model, images, z))
    kl = -0.5 * (1 + log_var).sum(1) + 0.5 * (z**2 + rho**2 - noise**2).sum(1)
    error = plain.errors(model, images, z).mean()
    expected = {"loss": error + 0.5 * kl.mean(), "reconstruction": error, "kl": kl.mean()}
    assert losses_of(model, x) == approx(expected, rel=1e-8)


@pytest.mark.parametrize("training", [True, False])
def test_rhvae(x, training):
    """Implicit half steps solved to convergence, the kinetic energy's slope by differences."""
    step, temperature, floor = 0.05, 0.9, 0.2
    model = build(
        "rhvae", beta=0.7, n_leapfrog=2, step_size=step, beta_zero=0.4, n_fixed_point=40, temperature=temperature,
        floor=floor, metric_width=5, n_centroids=4,
    )  # fmt: skip
    model.end_epoch(torch.rand(9, *SHAPE, generator=generator(2), dtype=torch.float64))
    model.train(training)
    source, images = generator(), x.numpy()
    mu, log_var = plain.encode(model, images)
    factors = plain.array(model.metric_network(x))
    assert np.allclose(factors, np.tril(factors))
    assert (np.diagonal(factors, axis1=1, axis2=2) > 0).all()
    if training:
        centroids, values = mu, factors @ factors.transpose(0, 2, 1)
    else:
        centroids, values = plain.array(model.centroids), plain.array(model.values)

    def f(z):
        return plain.cometric(z, centroids, values, temperature, floor)

    starts = mu + np.exp(log_var / 2) * normal(6, D, source=source)
    noises = normal(6, D, source=source)
    ratios = np.float32(quadratic_ratios(0.4, 2)).astype(float)
    errors, kls = [], []
    for i in range(6):
        one, z, noise = images[i : i + 1], starts[i], noises[i]
        rho = np.linalg.solve(np.linalg.cholesky(f(z)).T, noise) / np.prod(ratios)
        for ratio in ratios:
            g = plain.force(model, one, z[None])[0]
            half, end = rho, z
            for _ in range(40):
                half = rho - step / 2 * (g + plain.slope(z, half, f))
            for _ in range(40):
                end = z + step / 2 * (f(z) + f(end)) @ half
            z = end
            rho = ratio * (half - step / 2 * (plain.force(model, one, z[None])[0] + plain.slope(z, half, f)))
        kinetic = plain.kinetic(z, rho, f) - 0.5 * noise @ noise + 0.5 * np.linalg.slogdet(f(starts[i]))[1]
        kls.append(-0.5 * (1 + log_var[i]).sum() + 0.5 * z @ z + kinetic)
        errors.append(plain.errors(model, one, z[None])[0])
    expected = {"loss": np.mean(errors) + 0.7 * np.mean(kls), "reconstruction": np.mean(errors), "kl": np.mean(kls)}
    assert losses_of(model, x) == approx(expected, rel=1e-7)
