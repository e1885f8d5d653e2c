"""Regularised autoencoders (Ghosh et al. 2020): `L = |x - x_hat|^2 + beta |z|^2 / 2 + lambda L_REG`.

L_REG smooths the decoder: nothing (`rae`), |theta|^2 of its weights (`rae_l2`), the squared norm of its Jacobian
(`rae_gp`), or spectral normalisation of its layers instead of a term (`rae_sn`). All are sums, as in Eq. 3 of the
geometric VAE. The authors' code takes means over the D = h w pixel positions and the d latents, of z^2 without the
1/2: a weight of theirs becomes 2 D / d times as large for the codes and D times for L_REG. The defaults are theirs for
MNIST, so converted at D = 1024, d = 16; their gradient penalty is that of the summed squared pixels, so its weight only
fits in order of magnitude.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from geovae.checks import check_not_negative
from geovae.models.ae import AE
from geovae.models.contract import PARTS, Toy
from geovae.models.networks import ImageShape, NetworkName


class RAE(AE):
    """Autoencoder with a quadratic penalty on its codes; sampled with a mixture fitted afterwards.

    Args:
        image_shape: (channels, height, width) of the images.
        latent_dim: dimension d of the latent space.
        network: `mlp`, `conv32`, `conv64` or `conv_oasis`.
        width: filters of the first layer; by default the paper's for the network.
        embedding_weight: beta, the weight of |z|^2 / 2.
    """

    losses: ClassVar[Mapping[str, str]] = {**PARTS, "embedding": "half the squared norm of the codes"}

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        latent_dim: int = 16,
        network: NetworkName = "conv32",
        width: int | None = None,
        embedding_weight: float = 0.064,
    ) -> None:
        super().__init__(image_shape, latent_dim=latent_dim, network=network, width=width)
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
        latent_dim: dimension d of the latent space.
        network: `mlp`, `conv32`, `conv64` or `conv_oasis`.
        width: filters of the first layer; by default the paper's for the network.
        embedding_weight: beta, the weight of |z|^2 / 2.
        decay_weight: lambda, the weight of the sum of the decoder's squared parameters.
    """

    losses: ClassVar[Mapping[str, str]] = {**RAE.losses, "decoder_norm": "squared norm of the decoder's weights"}

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        latent_dim: int = 16,
        network: NetworkName = "conv32",
        width: int | None = None,
        embedding_weight: float = 0.0128,
        decay_weight: float = 1e-4,
    ) -> None:
        super().__init__(
            image_shape, latent_dim=latent_dim, network=network, width=width, embedding_weight=embedding_weight
        )
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
        latent_dim: dimension d of the latent space.
        network: `mlp`, `conv32`, `conv64` or `conv_oasis`.
        width: filters of the first layer; by default the paper's for the network.
        embedding_weight: beta, the weight of |z|^2 / 2.
        penalty_weight: lambda, the weight of |J|_F^2, J the Jacobian of all pixels by all latents.
    """

    losses: ClassVar[Mapping[str, str]] = {**RAE.losses, "gradient_penalty": "squared norm of the decoder's gradient"}
    second_derivatives = True  # the loss contains a gradient, which torch.compile cannot differentiate

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        latent_dim: int = 16,
        network: NetworkName = "conv32",
        width: int | None = None,
        embedding_weight: float = 0.0128,
        penalty_weight: float = 5e-5,
    ) -> None:
        super().__init__(
            image_shape, latent_dim=latent_dim, network=network, width=width, embedding_weight=embedding_weight
        )
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
        latent_dim: dimension d of the latent space.
        network: `mlp`, `conv32`, `conv64` or `conv_oasis`.
        width: filters of the first layer; by default the paper's for the network.
        embedding_weight: beta, the weight of |z|^2 / 2.
    """

    # A decoder whose every layer has norm 1 needs large codes, and batch norm to reach black and white.
    toy = Toy(
        {"embedding_weight": 1e-4},
        overfit_options={"network": "conv32", "width": 4, "embedding_weight": 1e-3},
        epochs=60,
        learning_rate=2e-2,
        error=0.6,
    )

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        latent_dim: int = 16,
        network: NetworkName = "conv32",
        width: int | None = None,
        embedding_weight: float = 1.152,
    ) -> None:
        super().__init__(
            image_shape, latent_dim=latent_dim, network=network, width=width, embedding_weight=embedding_weight
        )
        for layer in self.decoder.body:
            if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
                spectral_norm(layer)
