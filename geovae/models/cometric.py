"""RHVAE's metric (Chadebec et al. 2020), differentiable in its centroids and matrices too.

It is written for the inverse tensor: `F(z) = G^-1(z) = sum_i V_i w_i(z) + lambda I`, `V_i = L_i L_i^T`,
`w_i(z) = exp(-|z - c_i|^2 / T^2)`. The kinetic energy is `T(z, rho) = rho^T F rho / 2 - log det F / 2`, and
`grad_z T = -(2 / T^2) sum_i a_i (z - c_i)`, `a_i = w_i <V_i, rho rho^T - F^-1> / 2`: matrix products, no (b, k, d, d).
"""

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from geovae.geometry.fields import EuclideanFeatures, invert_factored


class MetricNetwork(nn.Module):
    """Images (b, c, h, w) to lower triangular L (b, d, d) with a positive diagonal: one hidden layer, two heads."""

    places: Tensor

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, width: int) -> None:
        super().__init__()
        self.d = latent_dim
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), width), nn.ReLU())
        self.diagonal = nn.Linear(width, latent_dim)
        below = latent_dim * (latent_dim - 1) // 2
        self.lower = nn.Linear(width, below) if below else None
        rows, columns = torch.tril_indices(latent_dim, latent_dim, -1)
        self.register_buffer("places", rows * latent_dim + columns, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return L of each image."""
        features = self.body(x)
        factor = torch.diag_embed(self.diagonal(features).exp())  # positive: L L^T is invertible
        if self.lower is None:
            return factor
        below = self.lower(features).to(factor.dtype)
        flat = factor.new_zeros(len(x), self.d * self.d).index_copy(1, self.places, below)
        return factor + flat.unflatten(1, (self.d, self.d))


class Place(NamedTuple):
    """The metric at points z (b, d): weights w (b, k), F (b, d, d), its Cholesky factor and its inverse G."""

    z: Tensor
    weights: Tensor
    tensor: Tensor
    factor: Tensor
    inverse: Tensor

    def momentum(self, noise: Tensor) -> Tensor:
        """Return rho ~ N(0, G) (b, d) from standard normal noise: with F = C C^T it is C^-T noise."""
        return torch.linalg.solve_triangular(self.factor.mT, noise.unsqueeze(2), upper=True).squeeze(2)

    def log_det(self) -> Tensor:
        """Return log det F (b,)."""
        return 2 * self.factor.diagonal(dim1=1, dim2=2).log().sum(1)

    def velocity(self, rho: Tensor) -> Tensor:
        """Return F rho (b, d)."""
        return (self.tensor @ rho.unsqueeze(2)).squeeze(2)


class Cometric:
    """The field F of centroids c (k, d) and matrices V (k, d, d)."""

    def __init__(self, centroids: Tensor, values: Tensor, temperature: float, floor: float) -> None:
        """Precompute the linear forms of the exponents."""
        self.centroids, self.flat = centroids, values.flatten(1)
        self.temperature, self.d = temperature, centroids.shape[1]
        self._features = EuclideanFeatures()
        self._log_weights = self._features.forms(centroids, values).times(temperature**-2)
        self._floor = floor * torch.eye(self.d, dtype=centroids.dtype, device=centroids.device)

    def weights(self, z: Tensor) -> Tensor:
        """Return w (b, k)."""
        return self._log_weights(self._features(z)).clamp(max=0.0).exp()  # rounding may pass above 0

    def tensor(self, weights: Tensor) -> Tensor:
        """Return F (b, d, d)."""
        return (weights @ self.flat).unflatten(1, (self.d, self.d)) + self._floor

    def at(self, z: Tensor) -> Place:
        """Return all that a leapfrog step needs at z (b, d)."""
        weights = self.weights(z)
        tensor = self.tensor(weights)
        factor = torch.linalg.cholesky_ex(tensor)[0]  # a broken matrix gives NaN, which the loss reports
        return Place(z, weights, tensor, factor, invert_factored(factor))

    def velocity(self, z: Tensor, rho: Tensor) -> Tensor:
        """Return F(z) rho (b, d) = sum_i w_i V_i rho + lambda rho."""
        return (self.tensor(self.weights(z)) @ rho.unsqueeze(2)).squeeze(2)

    def slope(self, place: Place, rho: Tensor) -> Tensor:
        """Return the gradient in z of the kinetic energy (b, d)."""
        outer = rho.unsqueeze(2) * rho.unsqueeze(1) - place.inverse
        a = 0.5 * (outer.flatten(1) @ self.flat.T) * place.weights
        return (a @ self.centroids - a.sum(1, keepdim=True) * place.z) * (2 / self.temperature**2)
