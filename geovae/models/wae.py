"""Wasserstein autoencoder (Tolstikhin et al. 2018), MMD variant with the inverse multi-quadratic kernel.

`k(u, v) = sum_s C_s / (C_s + |u - v|^2)`, `C_s = s C` over the scales .1 .2 .5 1 2 5 10; the penalty is the unbiased
estimate of MMD^2 between the codes of a batch and as many draws from N(0, I) (their Algorithm 2).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor

from geovae.checks import check_choice, check_not_negative
from geovae.models.ae import AE
from geovae.models.contract import PARTS, Toy
from geovae.models.networks import ImageShape
from geovae.neighbours import squared_distances

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
Bandwidth = Literal["fixed", "median"]


def multi_quadratic(squared: Tensor, bandwidth: Tensor | float) -> Tensor:
    """Return the kernel at squared distances of any shape."""
    kernel = torch.zeros_like(squared)
    for scale in SCALES:
        kernel = kernel + scale * bandwidth / (scale * bandwidth + squared)
    return kernel


def squared_mmd(z: Tensor, p: Tensor, bandwidth: Bandwidth = "fixed") -> Tensor:
    """Return the unbiased estimate of MMD^2 between the samples z and p, both (n, d).

    The bandwidth C is 2 d, the mean of |u - v|^2 under N(0, I), or the median of |z_i - p_j|^2. One sample alone has no
    pairs of its own: then the terms within the samples are 0.
    """
    n, d = z.shape
    across = squared_distances(z, p)
    c = 2.0 * d if bandwidth == "fixed" else across.detach().median()  # the bandwidth is a constant of the loss
    within = torch.zeros((), dtype=z.dtype, device=z.device)
    for points in (z, p):
        kernel = multi_quadratic(squared_distances(points, points), c)
        within = within + (kernel.sum() - kernel.diagonal().sum()) / max(n * (n - 1), 1)
    return within - 2 * multi_quadratic(across, c).mean()


class WAE(AE):
    """Wasserstein autoencoder: a deterministic encoder whose codes, as a set, are pulled towards N(0, I).

    Args:
        image_shape: (channels, height, width) of the images.
        mmd_weight: weight of MMD^2 beside the squared error summed over pixels. A weight published for the mean over
            pixels is multiplied by their number: the RAE authors' 0.03 for MNIST is about 30 at 32x32.
        bandwidth: C of the kernel: `fixed` at 2 d, or the `median` of the squared distances to the prior's draws.
        **options: of `AE`.
    """

    losses: ClassVar[Mapping[str, str]] = {**PARTS, "mmd": "maximum mean discrepancy of codes and prior"}
    toy = Toy({"mmd_weight": 2.0})

    def __init__(
        self, image_shape: ImageShape, *, mmd_weight: float = 30.0, bandwidth: Bandwidth = "fixed", **options: Any
    ) -> None:
        super().__init__(image_shape, **options)
        check_not_negative(mmd_weight=mmd_weight)
        check_choice("bandwidth", bandwidth, get_args(Bandwidth))
        self.mmd_weight = mmd_weight
        self.bandwidth = bandwidth

    def loss(self, x: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Return `loss` and its parts: `reconstruction`, the squared error summed over pixels, and `mmd`."""
        z = self.encode(x).mu
        reconstruction = (self.decode(z) - x).square().flatten(1).sum(1).mean()
        prior = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
        with torch.autocast(z.device.type, enabled=False):  # differences of squares need the digits
            mmd = squared_mmd(z, prior, self.bandwidth)
        return {"loss": reconstruction + self.mmd_weight * mmd, "reconstruction": reconstruction, "mmd": mmd}
