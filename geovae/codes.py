"""Codes: what an encoder says about a data set, and all that geometry and samplers need to know of a model."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from geovae.images import to_float


class Codes(NamedTuple):
    """Posterior means and log variances of `n` images in `d` latent dimensions.

    `mu` and `log_var` are (n, d); `log_var` is None for a deterministic encoder. The posterior covariance of
    image i is Sigma_i = diag(exp(log_var[i])).
    """

    mu: Tensor
    log_var: Tensor | None = None


class Encoder(Protocol):
    """Anything that encodes a batch of images (b, c, h, w) in [0, 1] into `Codes`."""

    def encode(self, x: Tensor) -> Codes:
        """Return the codes of `x`."""


@torch.no_grad()
def encode_images(model: Encoder, images: Tensor, *, batch_size: int = 500) -> Codes:
    """Encode `images` (n, c, h, w), uint8 or float, batch by batch on the model's device; codes are on the CPU.

    The model is used as it stands: call `model.eval()` first.
    """
    device = next(iter(model.parameters())).device  # type: ignore[attr-defined]
    batches = [model.encode(to_float(x.to(device))) for x in images.split(batch_size)]
    mu = torch.cat([b.mu.float().cpu() for b in batches])
    log_vars = [b.log_var for b in batches]
    if any(v is None for v in log_vars):
        return Codes(mu)
    return Codes(mu, torch.cat([v.float().cpu() for v in log_vars if v is not None]))
