"""Jumps between the modes of `sqrt(det G)^s`: independence proposals from its closed-form bumps.

Near an isolated centroid the density of Eq. 7 is a Gaussian `N(c_i, rho^2 / (d s) Sigma_i)`, and all these bumps have
the same volume. The proposal is their equal mixture q; z -> z' is accepted with probability
min(1, pi(z') q(z) / (pi(z) q(z'))), which leaves the target of HMC invariant (Tierney 1994): alternate the two.
"""

import math

import torch
from torch import Tensor

from geovae.geometry.fields import DiagonalFeatures, Forms
from geovae.geometry.metric import LatentMetric
from geovae.samplers.hmc import LogDensity, State, init, select


class BumpMixture:
    """The equal mixture of `N(c_i, scale^2 diag(1 / V_i))` over a diagonal metric's centroids."""

    def __init__(self, metric: LatentMetric, sharpness: float = 1.0, elements: int = 2**20) -> None:
        """Precompute the exponents' linear forms, as `LatentMetric` does."""
        if metric.values.ndim != 2 or metric.weights != "mahalanobis" or metric.tensor != "metric":
            raise ValueError("bumps have a closed form only for a diagonal Mahalanobis metric (Eq. 7)")
        self.scale = metric.temperature / math.sqrt(metric.d * sharpness)
        self.centroids, self.deviations = metric.centroids, self.scale * metric.values.rsqrt()
        self._origin = metric.centroids.mean(0)
        precisions = metric.values / (2 * self.scale**2)
        exponents = DiagonalFeatures().forms(metric.centroids - self._origin, precisions)
        constant = math.log(metric.k) + 0.5 * metric.d * math.log(2 * math.pi)
        self._log_terms = Forms(exponents.linear, exponents.constant - self.deviations.log().sum(1) - constant)
        self._rows = max(elements // metric.k, 16)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log q(z): (n, d) -> (n,)."""
        features = DiagonalFeatures()
        parts = (self._log_terms(features(x - self._origin)) for x in z.split(self._rows))
        return torch.cat([part.logsumexp(1) for part in parts])

    def place(self, index: Tensor, noise: Tensor) -> Tensor:
        """Return the draws (n, d) of components `index` (n,) with standard normal `noise` (n, d)."""
        return self.centroids[index] + self.deviations[index] * noise


def jump(
    state: State, proposal: Tensor, uniform: Tensor, log_density: LogDensity, bumps: BumpMixture
) -> tuple[State, Tensor]:
    """Return the state after one independence step with `proposal` (n, d) drawn from `bumps`, and who accepted (n,)."""
    new = init(proposal, log_density)
    log_ratio = (new.log_density - bumps.log_prob(proposal)) - (state.log_density - bumps.log_prob(state.position))
    accepted = uniform.log() < log_ratio
    return select(accepted, new, state), accepted


def draw_jump(n: int, bumps: BumpMixture, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the proposals (n, d) of one jump and the uniforms (n,) that decide on it."""
    like, device = bumps.centroids, generator.device
    index = torch.randint(len(like), (n,), generator=generator, device=device)
    noise = torch.randn(n, like.shape[1], generator=generator, device=device, dtype=like.dtype)
    uniform = torch.rand(n, generator=generator, device=device, dtype=like.dtype)
    return bumps.place(index.to(like.device), noise.to(like.device)), uniform.to(like.device)
