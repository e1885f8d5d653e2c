"""log p(x) by importance sampling against a linear-Gaussian model, whose marginal is N(b, W W^T + beta / 2 I)."""

import math

import pytest
import torch
from torch import Generator, nn

from geovae.codes import Codes
from geovae.models import MODELS, build_model, log_likelihood

SHAPE = (1, 2, 3)
D, PIXELS = 2, 6
WITH = {
    "vae": {},
    "vamp": {"n_pseudo_inputs": 4},
    "hvae": {"n_leapfrog": 3, "step_size": 0.1},
    "rhvae": {"n_leapfrog": 3, "step_size": 0.05, "likelihood": "gaussian", "n_fixed_point": 8, "n_centroids": 5},
}


class Linear(nn.Module):
    """A decoder without a sigmoid: x_hat = W z + b."""

    def __init__(self):
        super().__init__()
        g = generator(3)
        self.weight = nn.Parameter(0.4 * torch.randn(PIXELS, D, generator=g, dtype=torch.float64))
        self.bias = nn.Parameter(torch.rand(PIXELS, generator=g, dtype=torch.float64))

    def forward(self, z):
        return (z @ self.weight.T + self.bias).view(-1, *SHAPE)


def generator(seed=0):
    return Generator().manual_seed(seed)


def linear_gaussian(name, beta):
    """Return the model with a linear decoder, an encoder that proposes a little wider than the posterior, and p(x)."""
    model = build_model(name, SHAPE, network="mlp", width=8, latent_dim=D, beta=beta, **WITH[name]).double().eval()
    model.decoder = Linear()
    w, b = model.decoder.weight.detach(), model.decoder.bias.detach()
    posterior = torch.linalg.inv(torch.eye(D, dtype=torch.float64) + 2 / beta * w.T @ w)
    log_var = (1.5 * posterior.diagonal()).log()
    model.encode = lambda x: Codes((x.flatten(1) - b) @ w @ posterior * 2 / beta, log_var.expand(len(x), D).clone())
    covariance = w @ w.T + beta / 2 * torch.eye(PIXELS, dtype=torch.float64)
    return model, torch.distributions.MultivariateNormal(b, covariance)


@pytest.mark.parametrize("name", ["vae", "hvae", "rhvae"])
@pytest.mark.parametrize("beta", [1.0, 0.2])
def test_it_finds_the_marginal_of_a_linear_gaussian_model(name, beta):
    model, marginal = linear_gaussian(name, beta)
    images = torch.rand(5, *SHAPE, generator=generator(1), dtype=torch.float64)
    if name == "rhvae":
        model.end_epoch(images)
    exact = marginal.log_prob(images.flatten(1))
    many = images.repeat(300, 1, 1, 1)
    weights = model.log_weight(many, model.encode(many), generator()).detach().view(300, 5)
    shares = (weights - exact).exp()  # mean 1: the estimate of p(x) is unbiased
    errors = shares.std(0) / math.sqrt(len(shares))
    assert (shares.mean(0) - 1).abs().max() < 4 * errors.max()
    assert errors.max() < 0.1


def test_the_function_agrees_and_draws_exactly_as_many_as_asked(monkeypatch):
    model, marginal = linear_gaussian("vae", 1.0)
    model.float()
    model.decoder.float()
    images = torch.rand(7, *SHAPE, generator=generator(1))
    encode = model.encode
    model.encode = lambda x: Codes(*(t.float() for t in encode(x.double())))
    rows = []
    weigh = model.log_weight
    monkeypatch.setattr(model, "log_weight", lambda x, *rest: rows.append(len(x)) or weigh(x, *rest))
    found = log_likelihood(model, images, n_samples=2345, generator=generator(), chunk_size=1000)
    assert sum(rows) == 7 * 2345
    assert max(rows) <= 1000
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, marginal.log_prob(images.double().flatten(1)), rtol=0, atol=0.06)


@pytest.mark.parametrize("name", [name for name in MODELS if name in WITH])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_many_samples_tighten_the_bound(name, likelihood, device):
    """E[log mean of s weights] grows with s from the ELBO (Burda et al. 2016, Theorem 1)."""
    options = {**WITH[name], "likelihood": likelihood}
    model = build_model(name, (1, 4, 4), network="mlp", width=8, latent_dim=D, **options).to(device).eval()
    with torch.no_grad():
        for head in model.encoder.heads:  # far from the posterior, so that the bound is loose
            head.weight.mul_(5)
    images = torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8, generator=generator()).repeat(20, 1, 1, 1)
    source = Generator(device).manual_seed(1)
    one, many = (log_likelihood(model, images, n_samples=s, generator=source).mean() for s in (1, 50))
    assert one < many
    assert many.isfinite()


def test_models_without_a_likelihood_and_bad_counts_are_refused():
    images = torch.rand(2, *SHAPE)
    model = build_model("ae", SHAPE, network="mlp", width=8, latent_dim=D)
    with pytest.raises(ValueError, match="AE has no likelihood; use a vae, vamp, hvae or rhvae"):
        log_likelihood(model, images, n_samples=1, generator=generator())
    model = build_model("vae", SHAPE, network="mlp", width=8, latent_dim=D, beta=0)
    with pytest.raises(ValueError, match="`n_samples` and `chunk_size` must be at least 1, got 0 and 1000"):
        log_likelihood(model, images, n_samples=0, generator=generator())
    with pytest.raises(ValueError, match="needs `beta` above 0"):
        log_likelihood(model, images, n_samples=1, generator=generator())
