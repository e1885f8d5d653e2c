"""Autoencoder: the squared error alone, no distribution in the latent space (the paper's baseline)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Generator, Tensor, nn

from geovae.codes import Codes
from geovae.models.contract import LOSS, Toy
from geovae.models.networks import Decoder, Encoder, ImageShape, NetworkName


class AE(nn.Module):
    """Deterministic autoencoder; its codes have no variances, so it has no posterior geometry.

    Args:
        image_shape: (channels, height, width) of the images.
        latent_dim: dimension d of the latent space.
        network: `mlp`, `conv32`, `conv64` or `conv_oasis`.
        width: filters of the first layer; by default the paper's for the network.
    """

    losses: ClassVar[Mapping[str, str]] = LOSS
    toy: ClassVar[Toy] = Toy()

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        latent_dim: int = 16,
        network: NetworkName = "conv32",
        width: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(network, image_shape, latent_dim, width, heads=1)
        self.decoder = Decoder(network, image_shape, latent_dim, width)
        self.latent_dim = latent_dim

    def encode(self, x: Tensor) -> Codes:
        """Return the codes of images (b, c, h, w): `mu` (b, d), no `log_var`."""
        return Codes(self.encoder(x)[0])

    def decode(self, z: Tensor) -> Tensor:
        """Return images (b, c, h, w) in [0, 1] for latents (b, d)."""
        return self.decoder(z)

    def loss(self, x: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Return `loss`: the squared error summed over pixels, averaged over the batch."""
        return {"loss": (self.decode(self.encode(x).mu) - x).square().flatten(1).sum(1).mean()}
