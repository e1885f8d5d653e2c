"""Sampling from the metric that an RHVAE has learnt itself (Chadebec et al. 2020, 2022): HMC on `sqrt(det G^-1(z))`.

The learnt metric is written for G^-1, which is large near the codes: the density is the inverse volume element there.
"""

from typing import Self

import torch
from torch import Tensor

from geovae.codes import Codes
from geovae.geometry.centroids import check_codes
from geovae.geometry.metric import LatentMetric
from geovae.samplers.adaptation import warm_up
from geovae.samplers.base import Drawn, Sampler
from geovae.samplers.chains import Kernel, Trace, run
from geovae.samplers.hmc import Parameters
from geovae.samplers.novelty import Novelty
from geovae.samplers.report import SampleInfo, movement

WARM_UP_CHAINS = 200


class RHVAESampler(Sampler):
    """Short chains from random centroids of the model's own metric.

    Args:
        n_transitions: length of a chain.
        n_leapfrog: leapfrog steps in a transition.
        step_size: of the leapfrog; none: dual averaging when fitting.
        target_acceptance: of the dual averaging.
        seed: for the warm-up when fitting.
    """

    needs = ("metric.centroids", "metric.values", "metric.temperature", "metric.floor")

    def __init__(
        self,
        n_transitions: int = 20,
        n_leapfrog: int = 10,
        step_size: float | None = None,
        target_acceptance: float = 0.8,
        seed: int = 0,
    ) -> None:
        """Check the ranges."""
        for name, value, least in (
            ("n_transitions", n_transitions, 0),
            ("n_leapfrog", n_leapfrog, 1),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}")
        if step_size is not None and not 0 < step_size < float("inf"):
            raise ValueError(f"`step_size` must be positive and finite, got {step_size}")
        if not 0 < target_acceptance < 1:
            raise ValueError(f"`target_acceptance` must lie in (0, 1), got {target_acceptance}")
        self.n_transitions, self.n_leapfrog, self.step_size = n_transitions, n_leapfrog, step_size
        self.target_acceptance, self.seed = target_acceptance, seed

    def fit(self, codes: Codes) -> Self:
        """Build the metric from the codes' extras, and find the step size."""
        check_codes(codes)
        if not set(self.needs) <= set(codes.extras):
            raise ValueError("the sampler `rhvae` needs codes of the model `rhvae`: these have no metric of their own")
        centroids, values, temperature, floor = (codes.extras[name].to(codes.mu) for name in self.needs)
        used = values.diagonal(dim1=1, dim2=2).sum(1) > 0
        if not used.any():
            raise ValueError("the metric of this RHVAE has no centroids: train the model for an epoch or more")
        self.metric = LatentMetric(
            centroids[used],
            values[used],
            temperature=float(temperature),
            floor=float(floor),
            weights="euclidean",
            tensor="cometric",
        )
        self._novelty = Novelty(codes.mu)
        self.kernel = Kernel(self.log_density, self._parameters())
        return self

    def log_density(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return log sqrt det G^-1 (n,) and its gradient (n, d) at z (n, d)."""
        volume, gradient = self.metric.log_volume_and_grad(z)
        return volume.neg_(), gradient.neg_()

    def _parameters(self) -> Parameters:
        inverse_mass = torch.ones_like(self.metric.centroids[0])
        if self.step_size is not None:
            return Parameters(self.step_size, self.n_leapfrog, inverse_mass)
        generator = torch.Generator().manual_seed(self.seed)
        return warm_up(
            self._starts(WARM_UP_CHAINS, generator),
            self.log_density,
            n_leapfrog=self.n_leapfrog,
            inverse_mass=inverse_mass,
            generator=generator,
            target=self.target_acceptance,
            largest_step=self.metric.temperature / self.metric.d**0.5,  # the standard deviation of one bump
            restart_every=max(self.n_transitions, 1),
        )[0]

    def _starts(self, n: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(self.metric.k, (n,), generator=generator, device=generator.device)
        return self.metric.centroids[index.to(self.metric.device)]

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        start = self._starts(n, generator)
        trace = run(start, self.kernel, self.n_transitions, generator)
        return trace.position, lambda: self._describe(start, trace)

    def _describe(self, start: Tensor, trace: Trace) -> SampleInfo:
        numbers = {
            "temperature": self.metric.temperature,
            "n_centroids": float(self.metric.k),
            "step_size": self.kernel.parameters.step_size,
            **movement(start, trace, self.metric, self._novelty),
        }
        return SampleInfo(numbers, {"acceptance": trace.acceptance, "diverged": trace.diverged})
