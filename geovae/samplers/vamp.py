"""The learnt prior of a VampPrior autoencoder (Tomczak & Welling 2018): a mixture with one Gaussian a pseudo-input."""

from typing import Self

import torch

from geovae.codes import Codes
from geovae.geometry.centroids import check_codes
from geovae.samplers.base import Drawn, Sampler
from geovae.samplers.novelty import Novelty
from geovae.samplers.report import SampleInfo


class VampSampler(Sampler):
    """Exact draws from `(1/K) sum_k N(mu_k, diag exp(log_var_k))`, the posteriors of the K pseudo-inputs."""

    needs = ("prior.mu", "prior.log_var")

    def fit(self, codes: Codes) -> Self:
        """Take the prior from the codes' extras."""
        check_codes(codes)
        if not set(self.needs) <= set(codes.extras):
            raise ValueError("the sampler `vamp` needs codes of the model `vamp`: these have no prior of their own")
        mu, log_var = (codes.extras[name].to(codes.mu) for name in self.needs)
        self._prior = check_codes(Codes(mu, log_var))
        self._novelty = Novelty(codes.mu)
        return self

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        mu, log_var = self._prior
        component = torch.randint(len(mu), (n,), generator=generator, device=generator.device).to(mu.device)
        noise = torch.randn(n, mu.shape[1], generator=generator, device=generator.device, dtype=mu.dtype)
        z = mu[component] + (0.5 * log_var[component]).exp() * noise.to(mu.device)
        return z, lambda: SampleInfo({"n_components": float(len(mu)), **self._novelty.scalars(z)})
