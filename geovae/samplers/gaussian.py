"""Samplers that draw exactly: the prior N(0, I), a Gaussian mixture fitted to the codes, and a VampPrior's mixture."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch

from geovae.checks import check_count, check_seed
from geovae.codes import Codes
from geovae.geometry.centroids import check_codes
from geovae.samplers.base import Drawn, SampleInfo, Sampler


class PriorSampler(Sampler):
    """Independent draws from N(0, I), the prior of a VAE: the baseline of every sampler."""

    def _fit(self, codes: Codes) -> None:
        self._like = codes.mu[:1]  # for dimension, type and device

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        like = self._like
        z = torch.randn(n, like.shape[1], generator=generator, device=generator.device, dtype=like.dtype)
        z = z.to(like.device)
        return z, lambda: SampleInfo(self._novelty.scalars(z))


class MixtureSampler(Sampler):
    """Draws from a Gaussian mixture with full covariances, fitted to the means of the codes (Ghosh et al. 2020).

    Args:
        n_components: largest number of components; fewer are used when there are not d + 1 codes for each.
        n_init: k-means starts of the EM algorithm, of which the one with the highest likelihood is kept.
        seed: of those starts.
    """

    least_codes = 2
    diagnostics: ClassVar[Mapping[str, str]] = {
        **Sampler.diagnostics,
        "n_components": "components of the mixture [count]",
    }

    def __init__(self, n_components: int = 10, n_init: int = 3, seed: int = 0) -> None:
        check_count(n_components=n_components, n_init=n_init)
        check_seed(seed)
        self.n_components, self.n_init, self.seed = n_components, n_init, seed

    def _fit(self, codes: Codes) -> None:
        from sklearn.mixture import GaussianMixture

        n, d = codes.mu.shape
        if n < self.least_codes:
            raise ValueError(f"a mixture needs {self.least_codes} codes or more, got {n}")
        distinct = len(torch.unique(codes.mu, dim=0))  # k-means cannot place more centres than that
        # A full covariance needs d + 1 points.
        components = max(min(self.n_components, n // (d + 1), distinct), 1)
        self._model = GaussianMixture(components, n_init=self.n_init, random_state=self.seed)
        # in float32 the covariances of close codes become singular
        self._model.fit(codes.mu.detach().double().cpu().numpy())
        self._like = codes.mu[:1]

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        seed = torch.randint(2**31, (), generator=generator, device=generator.device)
        random = np.random.RandomState(int(seed))
        self._model.random_state = random
        points = random.permutation(self._model.sample(n)[0])  # scikit-learn sorts its draws by component
        z = torch.from_numpy(points).to(self._like)
        components = float(self._model.n_components)
        return z, lambda: SampleInfo({"n_components": components, **self._novelty.scalars(z)})


class VampSampler(Sampler):
    """Draws from `(1/K) sum_k N(mu_k, diag exp(log_var_k))`: the prior of a VampPrior (Tomczak & Welling 2018)."""

    needs = ("prior.mu", "prior.log_var")
    diagnostics = MixtureSampler.diagnostics

    def _fit(self, codes: Codes) -> None:
        mu, log_var = (codes.extras[name].to(codes.mu) for name in self.needs)
        self._prior = check_codes(Codes(mu, log_var))  # a model file may be damaged

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        mu, log_var = self._prior
        component = torch.randint(len(mu), (n,), generator=generator, device=generator.device).to(mu.device)
        noise = torch.randn(n, mu.shape[1], generator=generator, device=generator.device, dtype=mu.dtype)
        z = mu[component] + (0.5 * log_var[component]).exp() * noise.to(mu.device)
        return z, lambda: SampleInfo({"n_components": float(len(mu)), **self._novelty.scalars(z)})
