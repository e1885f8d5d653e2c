"""Variational autoencoder with a fixed-variance Gaussian decoder (Kingma & Welling 2014; the paper's Eq. 3)."""

from collections.abc import Mapping
from math import prod
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from geovae.checks import check_choice, check_not_negative
from geovae.codes import Codes
from geovae.models.contract import PARTS, Toy
from geovae.models.likelihood import (
    LIKELIHOODS,
    Likelihood,
    log_likelihood_of,
    log_normal,
    log_standard_normal,
    reconstruction_error,
)
from geovae.models.networks import Decoder, Encoder, ImageShape, NetworkName


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
        return log_likelihood_of(errors, prod(x.shape[1:]), self.likelihood, self.beta)

    def log_weight(self, x: Tensor, codes: Codes, generator: Generator) -> Tensor:
        """Return log p(x | z) + log p(z) - log q(z | x) (b,) at one draw of z."""
        z = sample_posterior(codes, generator)
        return self.log_conditional(x, self.errors(x, z)) + self.log_prior(z) - log_normal(z, codes)
