"""The pull-back metric of a decoder, `J^T J`, and its link to the posterior covariance (Section 4.4).

At the optimum of a VAE whose decoder is a Gaussian of variance s^2, `Sigma^-1(x) ~ J^T J / s^2 + I` at z = mu(x).
A loss `|x - x_hat|^2 + beta KL` is that VAE with s^2 = beta / 2.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import jacfwd, vmap

from geovae.codes import Codes
from geovae.devices import full_precision
from geovae.geometry.centroids import check_codes

Decode = Callable[[Tensor], Tensor]
"""z (n, d) -> images (n, ...); batch normalisation must be in evaluation mode."""


@full_precision()
def pullback_metric(decode: Decode, z: Tensor, *, chunk_size: int = 32) -> Tensor:
    """Return J^T J: (n, d) -> (n, d, d), by d forward-mode derivatives of every point."""

    def one(point: Tensor) -> Tensor:
        return decode(point.unsqueeze(0)).flatten()

    def gram(point: Tensor) -> Tensor:
        jacobian = jacfwd(one)(point)
        return jacobian.T @ jacobian

    with warnings.catch_warnings():
        # torch's own forward-mode rules still go through torch.jit.script
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        return vmap(gram, chunk_size=chunk_size)(z).detach()


class PullbackCheck(NamedTuple):
    """`predicted` and `observed` diagonals of Sigma^-1 (n, d), and the (n, d, d) pull-back behind the first."""

    predicted: Tensor
    observed: Tensor
    pullback: Tensor

    def scalars(self) -> dict[str, float]:
        """Return how well they agree, as flat numbers for logging.

        `pullback_error`: the median of |predicted - observed| / observed. `pullback_ratio`: the median of
        predicted / observed, 1 at the optimum. `pullback_correlation`: of the logarithms. `pullback_off_diagonal`: the
        median share of the off-diagonal in the norm of J^T J, which a diagonal Sigma cannot follow.
        """
        ratio = self.predicted / self.observed
        logs = torch.stack([self.predicted.log().flatten(), self.observed.log().flatten()])
        diagonal = self.pullback.diagonal(dim1=1, dim2=2).square().sum(1)
        # A constant decoder.
        total = self.pullback.square().sum((1, 2)).clamp_min(torch.finfo(self.pullback.dtype).tiny)
        return {
            "pullback_error": float((ratio - 1).abs().median()),
            "pullback_ratio": float(ratio.median()),
            "pullback_correlation": float(torch.corrcoef(logs)[0, 1]),
            "pullback_off_diagonal": float((1 - diagonal / total).clamp_min(0).sqrt().median()),
        }


@full_precision()
def check_pullback(decode: Decode, codes: Codes, decoder_variance: float, *, chunk_size: int = 32) -> PullbackCheck:
    """Compare the diagonal of `J^T J / decoder_variance + I` with exp(-log_var) at the codes (n, d), Section 4.4."""
    check_codes(codes, need_log_var=True)
    assert codes.log_var is not None
    if not decoder_variance > 0:
        raise ValueError(f"`decoder_variance` must be positive, got {decoder_variance}")
    pullback = pullback_metric(decode, codes.mu, chunk_size=chunk_size)
    predicted = pullback.diagonal(dim1=1, dim2=2) / decoder_variance + 1
    return PullbackCheck(predicted, (-codes.log_var).exp(), pullback)
