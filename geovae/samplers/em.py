"""Expectation maximisation (Dempster et al. 1977) for mixtures of many Gaussians, by matrix products alone.

A log-density of a Gaussian is linear in the products of a point's coordinates, so that the E-step is one product of
these with the coefficients of the components, and the M-step one product with the responsibilities. scikit-learn loops
over the components, of which there can be hundreds here, and knows no GPU.
"""

import math

import torch
from torch import Tensor

ROWS = 4096  # points whose responsibilities are held at once


def refine_mixture(
    x: Tensor, weights: Tensor, means: Tensor, covariances: Tensor, *, ridge: float, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights (k,), means (k, d) and covariances (k, d, d) after `steps` steps of EM on the points x (n, d).

    All in float64. `ridge` is added to the diagonal of each covariance, so that components of few points stay regular.

    Raises:
        torch.linalg.LinAlgError: if a covariance is not positive definite.
    """
    origin = x.mean(0)  # products keep their digits near the origin
    points, means = _products(x - origin), means - origin
    for _ in range(steps):
        sums = _sum_responsibilities(points, _coefficients(weights, means, covariances))
        counts = sums[:, -1] + 10 * torch.finfo(x.dtype).eps  # a component may have lost all its points
        weights, means = counts / counts.sum(), sums[:, -1 - x.shape[1] : -1] / counts[:, None]
        squares = _unpack(sums[:, : -1 - x.shape[1]] / counts[:, None], x.shape[1])
        covariances = squares - means[:, :, None] * means[:, None] + ridge * torch.eye(x.shape[1]).to(x)
    return weights, means + origin, covariances


def _products(x: Tensor) -> Tensor:
    """Return the products of coordinates i <= j, the coordinates and 1, of points (n, d)."""
    i, j = torch.triu_indices(x.shape[1], x.shape[1], device=x.device)
    return torch.cat([x[:, i] * x[:, j], x, torch.ones_like(x[:, :1])], dim=1)


def _unpack(products: Tensor, d: int) -> Tensor:
    """Return symmetric matrices (k, d, d) from their entries i <= j."""
    i, j = torch.triu_indices(d, d, device=products.device)
    matrices = products.new_zeros(len(products), d, d)
    matrices[:, i, j] = matrices[:, j, i] = products
    return matrices


def _coefficients(weights: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    """Return what the products of a point are weighted with, for its log-density (k,) under each component."""
    d = means.shape[1]
    factor = torch.linalg.cholesky(covariances)
    precisions = torch.cholesky_inverse(factor)
    linear = torch.einsum("kij,kj->ki", precisions, means)
    log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
    constant = weights.log() - 0.5 * ((linear * means).sum(1) + log_det + d * math.log(2 * math.pi))
    i, j = torch.triu_indices(d, d, device=means.device)
    quadratic = precisions[:, i, j] * torch.where(i == j, -0.5, -1.0)  # i < j stands for j > i too
    return torch.cat([quadratic, linear, constant[:, None]], dim=1)


def _sum_responsibilities(points: Tensor, coefficients: Tensor) -> Tensor:
    """Return the sums (k, p) of the points' products, each weighted with the component's responsibility for it."""
    total = points.new_zeros(len(coefficients), points.shape[1])
    for block in points.split(ROWS):
        total += (block @ coefficients.T).softmax(dim=1).T @ block
    return total
