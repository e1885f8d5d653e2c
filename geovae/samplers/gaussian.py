"""Samplers that draw exactly: the prior N(0, I), Gaussian mixtures fitted to the codes, and a VampPrior's mixture."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from geovae.checks import check_count, check_positive, check_seed
from geovae.codes import Codes
from geovae.geometry.centroids import check_codes
from geovae.samplers.base import Drawn, SampleInfo, Sampler
from geovae.samplers.em import refine_mixture

PROBES = 3000  # draws that measure the novelty; the standard error of their median is about 2 %
RIDGE = 1e-4  # of the mean variance within clusters: a cluster of few codes spans a plane only


class PriorSampler(Sampler):
    """Independent draws from N(0, I), the prior of a VAE: the baseline of every sampler."""

    follows_codes = False

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
        n = len(codes.mu)
        if n < self.least_codes:
            raise ValueError(f"a mixture needs {self.least_codes} codes or more, got {n}")
        self._like = codes.mu[:1]
        distinct = len(torch.unique(codes.mu, dim=0))  # k-means cannot place more centres than that
        # in float32 the covariances of close codes become singular
        self._model = self._fit_mixture(codes.mu.detach().double().cpu().numpy(), distinct)

    def _fit_mixture(self, mu: np.ndarray, distinct: int) -> Any:
        from sklearn.mixture import GaussianMixture

        n, d = mu.shape
        components = max(min(self.n_components, n // (d + 1), distinct), 1)  # a full covariance needs d + 1 points
        return GaussianMixture(components, n_init=self.n_init, random_state=self.seed).fit(mu)

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        seed = torch.randint(2**31, (), generator=generator, device=generator.device)
        random = np.random.RandomState(int(seed))
        self._model.random_state = random
        points = random.permutation(self._model.sample(n)[0])  # scikit-learn sorts its draws by component
        z = torch.from_numpy(points).to(self._like)
        components = float(self._model.n_components)
        return z, lambda: SampleInfo({"n_components": components, **self._novelty.scalars(z)})

    def log_density(self, z: Tensor) -> Tensor:
        """Return the exact log-density (n,) at the points z (n, d), in nats and float64."""
        self._check_ready(len(z))
        return torch.from_numpy(self._model.score_samples(z.detach().double().cpu().numpy()))


class FineMixtureSampler(MixtureSampler):
    """Draws from a Gaussian mixture with as many components as make its draws as novel as held-out codes.

    Ten components smooth over the gaps between clusters; with too many a mixture copies its training codes. Held-out
    likelihood stops far too early, since a few codes outside all components cost it more than the smoothing of all
    others. The number is searched with the Gaussians of k-means clusters, from which a few steps of EM start.

    Args:
        novelty: how far draws shall lie from the training codes, in units of held-out codes: 1 is as far as new data,
            below .95 a sampler copies.
        steps: of EM.
        seed: of k-means.
    """

    def __init__(self, novelty: float = 1.0, steps: int = 10, seed: int = 0) -> None:
        check_positive(novelty=novelty)
        check_count(steps=steps)
        check_seed(seed)
        self.novelty, self.steps, self.seed = novelty, steps, seed

    def _fit_mixture(self, mu: np.ndarray, distinct: int) -> Any:
        model = self._from_clusters(mu, self._find_components(mu, max(min(distinct, len(mu) // 2), 1)))
        start = (model.weights_, model.means_, model.covariances_)
        x, *parameters = (torch.from_numpy(values).to(self._like.device) for values in (mu, *start))
        refined = refine_mixture(x, *parameters, ridge=model.reg_covar, steps=self.steps)
        model.weights_, model.means_, model.covariances_ = (values.cpu().numpy() for values in refined)
        model.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(model.covariances_)).swapaxes(1, 2)
        return model

    def _find_components(self, mu: np.ndarray, most: int) -> int:
        """Return the largest number of clusters, up to `most`, whose Gaussians give draws that are novel enough."""
        low, high = 1, min(8, most)
        while high < most and self._is_novel(self._from_clusters(mu, high)):
            low, high = high, min(2 * high, most)  # upwards: many clusters take the longest
        while high > low + max(low // 8, 1):  # an eighth more or less hardly changes the novelty
            middle = round((low * high) ** 0.5)
            low, high = (middle, high) if self._is_novel(self._from_clusters(mu, middle)) else (low, middle)
        return low

    def _from_clusters(self, mu: np.ndarray, components: int) -> Any:
        """Return the mixture of the Gaussians of k-means clusters, where EM shall start."""
        from sklearn.cluster import KMeans
        from sklearn.mixture import GaussianMixture

        clusters = KMeans(components, n_init=1, max_iter=20, random_state=self.seed).fit(mu)
        members = [mu[clusters.labels_ == k] for k in range(components)]
        spread = mu - clusters.cluster_centers_[clusters.labels_]
        ridge = max(RIDGE * float((spread**2).mean()), 1e-9 * float((mu**2).mean()), 1e-30)  # codes may coincide
        covariances = np.stack([np.cov(m, rowvar=False, bias=True).reshape(2 * mu.shape[1:]) for m in members])
        covariances += ridge * np.eye(mu.shape[1])
        model = GaussianMixture(components, reg_covar=ridge)
        model.weights_ = np.array([len(m) for m in members]) / len(mu)
        model.means_, model.covariances_ = clusters.cluster_centers_, covariances
        return model

    def _is_novel(self, model: Any) -> bool:
        """Return whether draws are as novel as asked, within the standard error of the measure."""
        model.random_state = self.seed
        z = torch.from_numpy(model.sample(PROBES)[0]).to(self._like)
        return self._novelty.scalars(z).get("nearest_code_ratio", 0.0) >= self.novelty * (1 - PROBES**-0.5)


class VampSampler(Sampler):
    """Draws from `(1/K) sum_k N(mu_k, diag exp(log_var_k))`: the prior of a VampPrior (Tomczak & Welling 2018)."""

    follows_codes = False
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
