"""Wasserstein autoencoder (Tolstikhin et al. 2018), MMD variant with the inverse multi-quadratic kernel.

`k(u, v) = sum_s C_s / (C_s + |u - v|^2)`, `C_s = s C` over the scales .1 .2 .5 1 2 5 10; the penalty is the unbiased
estimate of MMD^2 between the codes of a batch and as many draws from N(0, I) (their Algorithm 2).
"""

from typing import Literal

import torch
from torch import Generator, Tensor

from geovae.models.ae import AE
from geovae.models.checks import check_choice, check_not_negative
from geovae.models.networks import ImageShape, NetworkName

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BANDWIDTHS = ("fixed", "median")


def squared_distances(u: Tensor, v: Tensor) -> Tensor:
    """Return |u_i - v_j|^2: (n, d), (m, d) -> (n, m)."""
    squares = u.square().sum(1, keepdim=True) + v.square().sum(1)
    return (squares - 2 * u @ v.T).clamp_min(0.0)


def multi_quadratic(squared: Tensor, bandwidth: Tensor | float) -> Tensor:
    """Return the kernel at squared distances of any shape."""
    kernel = torch.zeros_like(squared)
    for scale in SCALES:
        kernel = kernel + scale * bandwidth / (scale * bandwidth + squared)
    return kernel


def squared_mmd(z: Tensor, p: Tensor, bandwidth: Literal["fixed", "median"] = "fixed") -> Tensor:
    """Return the unbiased estimate of MMD^2 between the samples z and p, both (n, d).

    The bandwidth C is 2 d, the mean of |u - v|^2 under N(0, I), or the median of |z_i - p_j|^2. One sample alone has no
    pairs with its own kind: there the terms within are 0.
    """
    n, d = z.shape
    across = squared_distances(z, p)
    c = 2.0 * d if bandwidth == "fixed" else across.detach().median()
    within = torch.zeros((), dtype=z.dtype, device=z.device)
    for points in (z, p):
        kernel = multi_quadratic(squared_distances(points, points), c)
        within = within + (kernel.sum() - kernel.diagonal().sum()) / max(n * (n - 1), 1)
    return within - 2 * multi_quadratic(across, c).mean()


class WAE(AE):
    """Wasserstein autoencoder: a deterministic encoder whose codes are drawn towards N(0, I) as a set.

    Args:
        image_shape: (channels, height, width) of the images.
        latent_dim: dimension d of the latent space.
        network: `mlp`, `conv32`, `conv64` or `conv_oasis`.
        width: filters of the first layer; by default the paper's for the network.
        mmd_weight: weight of MMD^2 beside the squared error summed over pixels. A weight published for the mean over
            pixels is multiplied by their number: the RAE authors' 0.03 for MNIST is about 30 at 32x32.
        bandwidth: C of the kernel: `fixed` at 2 d, or the `median` of the squared distances to the prior's draws.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        latent_dim: int = 16,
        network: NetworkName = "conv32",
        width: int | None = None,
        mmd_weight: float = 30.0,
        bandwidth: Literal["fixed", "median"] = "fixed",
    ) -> None:
        super().__init__(image_shape, latent_dim=latent_dim, network=network, width=width)
        check_not_negative(mmd_weight=mmd_weight)
        check_choice("bandwidth", bandwidth, BANDWIDTHS)
        self.mmd_weight = mmd_weight
        self.bandwidth: Literal["fixed", "median"] = bandwidth

    def loss(self, x: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Return `loss` and its parts: `reconstruction`, the squared error summed over pixels, and `mmd`."""
        z = self.encode(x).mu
        reconstruction = (self.decode(z) - x).square().flatten(1).sum(1).mean()
        prior = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
        with torch.autocast(z.device.type, enabled=False):  # differences of squares need the digits
            mmd = squared_mmd(z, prior, self.bandwidth)
        return {"loss": reconstruction + self.mmd_weight * mmd, "reconstruction": reconstruction, "mmd": mmd}
