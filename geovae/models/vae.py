"""Variational autoencoder with a fixed-variance Gaussian decoder (Kingma & Welling 2014; the paper's Eq. 3)."""

import torch
from torch import Generator, Tensor, nn

from geovae.codes import Codes
from geovae.models.networks import Decoder, Encoder, ImageShape, NetworkName


def gaussian_kl(codes: Codes) -> Tensor:
    """Return KL(N(mu, diag exp(log_var)) || N(0, I)) for each point, shape (b,)."""
    mu, log_var = codes
    assert log_var is not None
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)


def sample_posterior(codes: Codes, generator: Generator) -> Tensor:
    """Draw z ~ N(mu, diag exp(log_var)) with the reparametrisation trick; shape (b, d)."""
    mu, log_var = codes
    assert log_var is not None
    noise = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
    return mu + (0.5 * log_var).exp() * noise


class VAE(nn.Module):
    """Variational autoencoder whose posterior covariances define the metric of Eq. 7.

    Args:
        image_shape: (channels, height, width) of the images.
        latent_dim: dimension d of the latent space.
        network: `mlp`, `conv32`, `conv64` or `conv_oasis`.
        width: filters of the first layer; by default the paper's for the network.
        beta: weight of the Kullback-Leibler divergence, 0 or more.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        latent_dim: int = 16,
        network: NetworkName = "conv32",
        width: int | None = None,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= beta < float("inf"):
            raise ValueError(f"`beta` must be 0 or more and finite, got {beta}")
        self.encoder = Encoder(network, image_shape, latent_dim, width)
        self.decoder = Decoder(network, image_shape, latent_dim, width)
        self.latent_dim = latent_dim
        self.beta = beta

    def encode(self, x: Tensor) -> Codes:
        """Return the codes of images (b, c, h, w): `mu` and `log_var`, both (b, d)."""
        return Codes(*self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """Return images (b, c, h, w) in [0, 1] for latents (b, d)."""
        return self.decoder(z)

    def loss(self, x: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Return `loss` (Eq. 3) and its parts `reconstruction` and `kl`, summed over pixels, batch means."""
        codes = self.encode(x)
        x_hat = self.decode(sample_posterior(codes, generator))
        reconstruction = (x - x_hat).square().flatten(1).sum(1).mean()
        kl = gaussian_kl(codes).mean()
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}
