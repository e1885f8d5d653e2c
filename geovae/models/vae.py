"""Variational autoencoder with a fixed-variance decoder (Kingma & Welling 2014), and log p(x) by importance sampling.

Gaussian (the paper's Eq. 3): `sum over pixels (x - x_hat)^2`, which is -log N(x; x_hat, I / 2) up to a constant.
Bernoulli: the cross entropy, also for grey values. Burda et al. 2016: `p(x) = E_q[p(x, z) / q(z | x)]`.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from geovae.checks import check_choice, check_not_negative
from geovae.codes import Codes
from geovae.images import to_float
from geovae.models.contract import PARTS, Toy
from geovae.models.networks import Decoder, Encoder, ImageShape, NetworkName

Likelihood = Literal["gaussian", "bernoulli"]
LIKELIHOODS = ("gaussian", "bernoulli")


def reconstruction_error(decoder: Decoder, x: Tensor, z: Tensor, likelihood: str) -> Tensor:
    """Return the error of decoding z (b, d) for images x (b, c, h, w), summed over pixels: (b,)."""
    if likelihood == "bernoulli":
        errors = binary_cross_entropy_with_logits(decoder.logits(z), x, reduction="none")
    else:
        errors = (x - decoder(z)).square()
    return errors.flatten(1).sum(1)


def log_likelihood_of(errors: Tensor, pixels: int, likelihood: str, beta: float) -> Tensor:
    """Return log p(x | z) (b,) from errors (b,) over `pixels` numbers.

    The weight beta of Eq. 3 is the decoder's variance: errors + beta KL = beta (errors / (2 sigma^2) + KL) with
    sigma^2 = beta / 2. A Bernoulli decoder has no variance, and beta plays no part.
    """
    if likelihood == "bernoulli":
        return -errors
    return -errors / beta - 0.5 * pixels * math.log(math.pi * beta)


def log_normal(z: Tensor, codes: Codes) -> Tensor:
    """Return log N(z; mu, diag exp(log_var)) for each row: (b,)."""
    mu, log_var = codes
    return -0.5 * ((z - mu).square() * (-log_var).exp() + log_var + math.log(2 * math.pi)).sum(1)


def log_standard_normal(z: Tensor) -> Tensor:
    """Return log N(z; 0, I) for each row: (b,)."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)


def gaussian_kl(codes: Codes) -> Tensor:
    """Return KL(N(mu, diag exp(log_var)) || N(0, I)) for each point, shape (b,)."""
    mu, log_var = codes
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)


def sample_posterior(codes: Codes, generator: Generator) -> Tensor:
    """Draw z ~ N(mu, diag exp(log_var)) with the reparametrisation trick; shape (b, d)."""
    mu, log_var = codes
    noise = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
    return mu + (0.5 * log_var).exp() * noise


class VAE(nn.Module):
    """Variational autoencoder whose posterior covariances define the metric of Eq. 7.

    Args:
        image_shape: (channels, height, width) of the images.
        latent_dim: dimension d of the latent space.
        network: `mlp`, `conv32`, `conv64`, `conv_oasis` or `conv3d`.
        width: filters of the first layer; by default the paper's for the network.
        beta: weight of the Kullback-Leibler divergence, 0 or more.
        likelihood: `gaussian` (the squared error of Eq. 3) or `bernoulli` (the cross entropy).
    """

    losses: ClassVar[Mapping[str, str]] = {
        **PARTS,
        "kl": "divergence of the posterior from the prior [nats, mean over images]",
    }
    toy: ClassVar[Toy] = Toy({"beta": 0.05})

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        latent_dim: int = 16,
        network: NetworkName = "conv32",
        width: int | None = None,
        beta: float = 1.0,
        likelihood: Likelihood = "gaussian",
    ) -> None:
        super().__init__()
        check_not_negative(beta=beta)
        check_choice("likelihood", likelihood, LIKELIHOODS)
        self.encoder = Encoder(network, image_shape, latent_dim, width)
        self.decoder = Decoder(network, image_shape, latent_dim, width)
        self.latent_dim = latent_dim
        self.beta = beta
        self.likelihood = likelihood

    def encode(self, x: Tensor) -> Codes:
        """Return the codes of images (b, c, h, w): `mu` and `log_var`, both (b, d)."""
        return Codes(*self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """Return images (b, c, h, w) in [0, 1] for latents (b, d)."""
        return self.decoder(z)

    def errors(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the reconstruction error of z (b, d) for images x (b, c, h, w), summed over pixels: (b,)."""
        return reconstruction_error(self.decoder, x, z, self.likelihood)

    def loss(self, x: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Return `loss` (Eq. 3) and its parts `reconstruction` and `kl`, summed over pixels, batch means."""
        codes = self.encode(x)
        reconstruction = self.errors(x, sample_posterior(codes, generator)).mean()
        kl = gaussian_kl(codes).mean()
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z) (b,)."""
        return log_standard_normal(z)

    def log_conditional(self, x: Tensor, errors: Tensor) -> Tensor:
        """Return log p(x | z) (b,) of images whose reconstruction errors are (b,)."""
        if self.likelihood == "gaussian" and self.beta == 0:
            raise ValueError("log p(x) needs `beta` above 0, which is twice the variance of a gaussian decoder")
        return log_likelihood_of(errors, math.prod(x.shape[1:]), self.likelihood, self.beta)

    def log_weight(self, x: Tensor, codes: Codes, generator: Generator) -> Tensor:
        """Return log p(x | z) + log p(z) - log q(z | x) (b,) at one draw of z."""
        z = sample_posterior(codes, generator)
        return self.log_conditional(x, self.errors(x, z)) + self.log_prior(z) - log_normal(z, codes)


class ImportanceWeighted(Protocol):
    """A model whose `log_weight` is one draw of log p(x, z) - log q(z | x)."""

    def encode(self, x: Tensor) -> Codes:
        """Return the codes of x (b, c, h, w)."""

    def log_weight(self, x: Tensor, codes: Codes, generator: Generator) -> Tensor:
        """Return one log weight for each image, (b,)."""


@torch.no_grad()
def log_likelihood(
    model: ImportanceWeighted, images: Tensor, *, n_samples: int, generator: Generator, chunk_size: int = 1000
) -> Tensor:
    """Return the estimate log((1 / s) sum_s p(x, z_s) / q(z_s | x)) for each image, float64 (n,), on the CPU.

    It needs a model in evaluation mode with a `log_weight` (`vae`, `vamp`, `hvae`, `rhvae`), images (n, c, h, w), uint8
    or float in [0, 1], and a generator on the model's device. s is exactly `n_samples`; `chunk_size` latents are
    decoded at once. With a Gaussian decoder the density is that of images in [0, 1] under the variance beta / 2.

    Raises:
        ValueError: if the model has no `log_weight`, or for a count below 1.
    """
    if not hasattr(model, "log_weight"):
        raise ValueError(f"{type(model).__name__} has no likelihood; use a vae, vamp, hvae or rhvae")
    if n_samples < 1 or chunk_size < 1:
        raise ValueError(f"`n_samples` and `chunk_size` must be at least 1, got {n_samples} and {chunk_size}")
    at_once = min(chunk_size, n_samples)
    found = []
    for x in images.split(max(chunk_size // at_once, 1)):
        x = to_float(x.to(generator.device))
        codes = model.encode(x)
        total = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
        for start in range(0, n_samples, at_once):
            count = min(at_once, n_samples - start)
            repeated = Codes(*(t.repeat_interleave(count, 0) for t in codes))
            weights = model.log_weight(x.repeat_interleave(count, 0), repeated, generator)
            # A running sum: memory does not grow.
            total = torch.logaddexp(total, weights.double().view(-1, count).logsumexp(1))
        found.append((total - math.log(n_samples)).cpu())
    return torch.cat(found)
