"""The learnt prior of a VampPrior autoencoder (Tomczak & Welling 2018): a mixture with one Gaussian a pseudo-input."""

import torch

from geovae.codes import Codes
from geovae.geometry.centroids import check_codes
from geovae.samplers.base import Drawn, SampleInfo, Sampler
from geovae.samplers.mixture import MixtureSampler


class VampSampler(Sampler):
    """Exact draws from `(1/K) sum_k N(mu_k, diag exp(log_var_k))`, the posteriors of the K pseudo-inputs."""

    needs = ("prior.mu", "prior.log_var")
    diagnostics = MixtureSampler.diagnostics

    def _fit(self, codes: Codes) -> None:
        mu, log_var = (codes.extras[name].to(codes.mu) for name in self.needs)
        self._prior = check_codes(Codes(mu, log_var))

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        mu, log_var = self._prior
        component = torch.randint(len(mu), (n,), generator=generator, device=generator.device).to(mu.device)
        noise = torch.randn(n, mu.shape[1], generator=generator, device=generator.device, dtype=mu.dtype)
        z = mu[component] + (0.5 * log_var[component]).exp() * noise.to(mu.device)
        return z, lambda: SampleInfo({"n_components": float(len(mu)), **self._novelty.scalars(z)})
