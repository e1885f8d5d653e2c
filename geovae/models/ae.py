"""Deterministic autoencoders: the plain one (the paper's baseline), and the regularised ones of Ghosh et al. (2020).

`L = |x - x_hat|^2 + beta |z|^2 / 2 + lambda L_REG`. L_REG smooths the decoder: nothing (`rae`), |theta|^2 of its
weights (`rae_l2`), the squared norm of its Jacobian (`rae_gp`), or spectral normalisation of its layers instead of a
term (`rae_sn`). All are sums over pixels, as in Eq. 3.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from geovae.checks import check_not_negative
from geovae.codes import Codes
from geovae.models.contract import LOSS, PARTS, Toy
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


# The authors' code takes means over the D = h w pixel positions and the d latents, of z^2 without the 1/2. Their weight
# of the codes is multiplied by 2 D / d here, that of L_REG by D. The defaults are theirs for MNIST (D = 1024, d = 16).
# Their gradient penalty is that of the summed squared pixels, so its weight fits only in order of magnitude.
class RAE(AE):
    """Autoencoder with a quadratic penalty on its codes; sampled with a mixture fitted afterwards.

    Args:
        image_shape: (channels, height, width) of the images.
        embedding_weight: beta, the weight of |z|^2 / 2.
        **options: of `AE`.
    """

    losses: ClassVar[Mapping[str, str]] = {**PARTS, "embedding": "half the squared norm of the codes"}

    def __init__(self, image_shape: ImageShape, *, embedding_weight: float = 0.064, **options: Any) -> None:
        super().__init__(image_shape, **options)
        check_not_negative(embedding_weight=embedding_weight)
        self.embedding_weight = embedding_weight

    def loss(self, x: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Return `loss` and its parts: `reconstruction`, `embedding` (|z|^2 / 2) and the decoder's regulariser."""
        z = self.encode(x).mu
        x_hat = self.decode(z)
        reconstruction = (x_hat - x).square().flatten(1).sum(1).mean()
        terms = self.regularizers(z, x_hat, generator)
        loss = reconstruction + sum(weight * term for weight, term in terms.values())
        return {"loss": loss, "reconstruction": reconstruction} | {name: term for name, (_, term) in terms.items()}

    def regularizers(self, z: Tensor, x_hat: Tensor, generator: Generator) -> dict[str, tuple[float, Tensor]]:
        """Return the weight and the value of every term beside the squared error, at z (b, d) and its decoding."""
        return {"embedding": (self.embedding_weight, 0.5 * z.square().sum(1).mean())}


class RAEL2(RAE):
    """RAE with the squared norm of the decoder's weights as its regulariser.

    Args:
        image_shape: (channels, height, width) of the images.
        embedding_weight: beta, the weight of |z|^2 / 2.
        decay_weight: lambda, the weight of the sum of the decoder's squared parameters.
        **options: of `AE`.
    """

    losses: ClassVar[Mapping[str, str]] = {**RAE.losses, "decoder_norm": "squared norm of the decoder's weights"}

    def __init__(
        self, image_shape: ImageShape, *, embedding_weight: float = 0.0128, decay_weight: float = 1e-4, **options: Any
    ) -> None:
        super().__init__(image_shape, embedding_weight=embedding_weight, **options)
        check_not_negative(decay_weight=decay_weight)
        self.decay_weight = decay_weight

    def regularizers(self, z: Tensor, x_hat: Tensor, generator: Generator) -> dict[str, tuple[float, Tensor]]:
        """Add `decoder_norm`, |theta|^2."""
        norm = torch.stack([p.square().sum() for p in self.decoder.parameters()]).sum()
        return super().regularizers(z, x_hat, generator) | {"decoder_norm": (self.decay_weight, norm)}


class RAEGP(RAE):
    """RAE with a gradient penalty: the squared Frobenius norm of the decoder's Jacobian at the codes.

    Args:
        image_shape: (channels, height, width) of the images.
        embedding_weight: beta, the weight of |z|^2 / 2.
        penalty_weight: lambda, the weight of |J|_F^2, J the Jacobian of all pixels by all latents.
        **options: of `AE`.
    """

    losses: ClassVar[Mapping[str, str]] = {**RAE.losses, "gradient_penalty": "squared norm of the decoder's gradient"}
    second_derivatives = True  # the loss contains a gradient, which torch.compile cannot differentiate

    def __init__(
        self, image_shape: ImageShape, *, embedding_weight: float = 0.0128, penalty_weight: float = 5e-5, **options: Any
    ) -> None:
        super().__init__(image_shape, embedding_weight=embedding_weight, **options)
        check_not_negative(penalty_weight=penalty_weight)
        self.penalty_weight = penalty_weight

    def regularizers(self, z: Tensor, x_hat: Tensor, generator: Generator) -> dict[str, tuple[float, Tensor]]:
        """Add `gradient_penalty`."""
        if not z.requires_grad:  # validation: the codes carry no graph
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                x_hat = self.decode(z)
        penalty = squared_jacobian_norm(z, x_hat, generator)
        return super().regularizers(z, x_hat, generator) | {"gradient_penalty": (self.penalty_weight, penalty)}


def squared_jacobian_norm(z: Tensor, x_hat: Tensor, generator: Generator) -> Tensor:
    """Return an unbiased estimate of the batch mean of |d x_hat / d z|_F^2 (Hutchinson 1990).

    `E|J^T v|^2 = |J|_F^2` for random signs v (b, c, h, w): one vector instead of one product for each pixel.
    """
    bits = torch.randint(0, 2, x_hat.shape, generator=generator, device=x_hat.device)
    signs = (2 * bits - 1).to(x_hat.dtype)
    (product,) = torch.autograd.grad(x_hat, z, signs, create_graph=torch.is_grad_enabled(), retain_graph=True)
    return product.square().sum(1).mean()


class RAESN(RAE):
    """RAE whose decoder layers are divided by their largest singular value (Miyato et al. 2018).

    Without batch norm (`mlp`, `conv_oasis`) the whole decoder then changes its logits by no more than its latents move:
    give the codes room with a small `embedding_weight`.

    Args:
        image_shape: (channels, height, width) of the images.
        embedding_weight: beta, the weight of |z|^2 / 2.
        **options: of `AE`.
    """

    # A decoder whose every layer has norm 1 needs large codes, and batch norm to reach black and white.
    toy = Toy(
        {"embedding_weight": 1e-4},
        overfit_options={"network": "conv32", "width": 4, "embedding_weight": 1e-3},
        epochs=60,
        learning_rate=2e-2,
        error=0.6,
    )

    def __init__(self, image_shape: ImageShape, *, embedding_weight: float = 1.152, **options: Any) -> None:
        super().__init__(image_shape, embedding_weight=embedding_weight, **options)
        for layer in self.decoder.body:
            if isinstance(layer, nn.Linear | nn.ConvTranspose2d):  # batch norm has no matrix to normalise
                spectral_norm(layer)
