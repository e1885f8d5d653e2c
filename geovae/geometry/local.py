"""Values V_i for a metric from the codes themselves: inverse covariances of the neighbourhood of each centroid.

The posterior variances of Eq. 7 say how sharply the decoder tells latents apart, not how the codes lie. With these the
bumps of the metric have the shape, or the width, of their neighbourhood, and an encoder needs no variances.
"""

from typing import Literal

import torch
from torch import Tensor

from geovae.neighbours import k_nearest

NEIGHBOURS = 20
RIDGE = 0.05  # of the mean variance, in all directions: fewer neighbours than dimensions span a plane only
NARROWEST, WIDEST = 1e-3, 9.0  # mean variances over their median: codes may coincide, and a lone code lies far out


def local_precisions(mu: Tensor, indices: Tensor, shape: Literal["neighbours", "bandwidth"]) -> Tensor:
    """Return V_i for the centroids `indices` (k,) of the codes mu (n, d), from their 20 nearest codes.

    Args:
        mu: codes (n, d).
        indices: which of them are centroids (k,).
        shape: "neighbours", the inverse covariance matrix, (k, d, d); "bandwidth", the inverse of its mean variance in
            all directions, (k, d).

    Raises:
        ValueError: for fewer than 3 codes, or if most codes coincide with all their neighbours.
    """
    n, d = mu.shape
    if n < 3:
        raise ValueError(f"covariances of neighbours need 3 codes or more, got {n}")
    points = mu.double()
    near = points[k_nearest(points[indices], points, min(NEIGHBOURS, n - 1), exclude=indices)]
    near = near - points[indices][:, None]
    variance = near.square().mean((1, 2))
    typical = variance.median()
    if not typical > 0:
        raise ValueError(
            "covariances of neighbours need codes that differ, and most coincide with all their neighbours"
        )
    bounded = variance.clamp(NARROWEST * typical, WIDEST * typical)
    if shape == "bandwidth":
        return (1 / bounded)[:, None].expand(-1, d).to(mu.dtype).contiguous()
    factor = (bounded / variance.clamp(min=torch.finfo(variance.dtype).tiny)).clamp(max=1.0)
    covariance = near.mT @ near * (factor / near.shape[1])[:, None, None]
    precision = torch.linalg.inv(covariance + RIDGE * torch.diag_embed(bounded[:, None].expand(-1, d)))
    return ((precision + precision.mT) / 2).to(mu.dtype)
