"""Sampling from the metric that an RHVAE has learnt itself (Chadebec et al. 2020, 2022): HMC on `sqrt(det G^-1(z))`.

The learnt metric is written for G^-1, which is large near the codes: the density is the inverse volume element there.
"""

import torch
from torch import Tensor

from geovae.codes import Codes
from geovae.geometry.metric import LatentMetric
from geovae.samplers.base import Drawn, SampleInfo, Sampler
from geovae.samplers.chains import Kernel, Trace, run_chains
from geovae.samplers.diagnostics import MOVEMENT, describe_movement
from geovae.samplers.hmc import Parameters, check_chains, warm_up
from geovae.samplers.volume import VolumeDensity

WARM_UP_CHAINS = 200


class RHVAESampler(Sampler):
    """Short chains from random centroids of the model's own metric.

    Args:
        n_transitions: length of a chain.
        n_leapfrog: leapfrog steps in a transition.
        step_size: of the leapfrog; None: dual averaging when fitting.
        target_acceptance: of the dual averaging.
        seed: of the warm-up when fitting.
    """

    needs = ("metric.centroids", "metric.values", "metric.temperature", "metric.floor")
    diagnostics = {**Sampler.diagnostics, **MOVEMENT}  # noqa: RUF012 (declared as ClassVar in the base class)

    def __init__(
        self,
        n_transitions: int = 20,
        n_leapfrog: int = 10,
        step_size: float | None = None,
        target_acceptance: float = 0.8,
        seed: int = 0,
    ) -> None:
        check_chains(n_transitions, n_leapfrog, step_size, target_acceptance, seed)
        self.n_transitions, self.n_leapfrog, self.step_size = n_transitions, n_leapfrog, step_size
        self.target_acceptance, self.seed = target_acceptance, seed

    def _fit(self, codes: Codes) -> None:
        centroids, values, temperature, floor = (codes.extras[name].to(codes.mu) for name in self.needs)
        used = values.diagonal(dim1=1, dim2=2).sum(1) > 0  # slots that no training image filled are 0
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
        self.log_density = VolumeDensity(self.metric, power=-1.0)
        self.kernel = Kernel(self.log_density, self._choose_parameters())

    def _choose_parameters(self) -> Parameters:
        inverse_mass = torch.ones_like(self.metric.centroids[0])
        if self.step_size is not None:
            return Parameters(self.step_size, self.n_leapfrog, inverse_mass)
        generator = torch.Generator().manual_seed(self.seed)
        return warm_up(
            self._draw_starts(WARM_UP_CHAINS, generator),
            self.log_density,
            n_leapfrog=self.n_leapfrog,
            inverse_mass=inverse_mass,
            generator=generator,
            target=self.target_acceptance,
            largest_step=self.metric.temperature / self.metric.d**0.5,  # the standard deviation of one bump
            restart_every=max(self.n_transitions, 1),
        )[0]

    def _draw_starts(self, n: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(self.metric.k, (n,), generator=generator, device=generator.device)
        return self.metric.centroids[index.to(self.metric.device)]

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        start = self._draw_starts(n, generator)
        trace = run_chains(start, self.kernel, self.n_transitions, generator)
        return trace.position, lambda: self._describe(start, trace)

    def _describe(self, start: Tensor, trace: Trace) -> SampleInfo:
        numbers = describe_movement(start, trace, self.kernel.parameters.step_size, self.metric, self._novelty)
        return SampleInfo(numbers, {"acceptance": trace.acceptance, "diverged": trace.diverged})
