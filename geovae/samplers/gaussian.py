"""Samplers that draw exactly: the prior N(0, I), Gaussian mixtures fitted to the codes, and a VampPrior's mixture."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from geovae.checks import check_count, check_positive, check_seed
from geovae.codes import Codes
from geovae.geometry.centroids import check_codes
from geovae.samplers.base import Drawn, Novelty, SampleInfo, Sampler, choose_evenly

LEAST_CLASS, LEAST_HELD_OUT = 50, 20  # codes of a class for a mixture of its own, and held-out codes to measure with
PROBES = 3000  # draws that measure the novelty; the standard error of their median is about 2 %
ROWS = 4096  # points whose responsibilities are held at once
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

    Within a batch every component has its share of the draws, up to one draw.

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
        self._model = self._fit_mixture(codes)

    def _fit_mixture(self, codes: Codes) -> Any:
        from sklearn.mixture import GaussianMixture

        n, d = codes.mu.shape
        components = min(self.n_components, n // (d + 1), _count_distinct(codes.mu))  # a covariance needs d + 1 points
        mu = _as_array(codes.mu)
        # in the units of the codes: as a number it would spread codes of a small scale over their whole space
        ridge = 1e-6 * float(mu.var(0).mean()) or 1e-30
        return GaussianMixture(max(components, 1), n_init=self.n_init, reg_covar=ridge, random_state=self.seed).fit(mu)

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        z = self._draw_points(n, generator).to(self._like)
        components = float(self._model.n_components)
        return z, lambda: SampleInfo({"n_components": components, **self._novelty.scalars(z)})

    def _draw_points(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n points in float64, spread evenly over the components, in random order."""
        weights, means, covariances = (
            torch.from_numpy(getattr(self._model, f"{name}_")).to(generator.device)
            for name in ("weights", "means", "covariances")
        )
        which = choose_evenly(weights, n, generator)
        z = torch.randn(n, means.shape[1], generator=generator, device=generator.device, dtype=torch.float64)
        start = 0
        for component, count in zip(*torch.unique_consecutive(which, return_counts=True), strict=True):
            rows = slice(start, start := start + int(count))
            z[rows] = means[component] + z[rows] @ torch.linalg.cholesky(covariances[component]).T
        return z[torch.randperm(n, generator=generator, device=generator.device)]

    def log_density(self, z: Tensor) -> Tensor:
        """Return the exact log-density (n,) at the points z (n, d), in nats and float64."""
        self._check_ready(len(z))
        return torch.from_numpy(self._model.score_samples(z.detach().double().cpu().numpy()))


class FineMixtureSampler(MixtureSampler):
    """Draws from a Gaussian mixture with as many components as make its draws as novel as held-out codes.

    Ten components smooth over the gaps between clusters; with too many a mixture copies its training codes. Held-out
    likelihood stops far too early, since a few codes outside all components cost it more than the smoothing of all
    others. The number is searched with the Gaussians of k-means clusters, from which a few steps of EM start. Where the
    codes have labels each class has a mixture of its own, weighted with its share of the codes: no component then
    spans two classes, and none is coarse because another class is sparse.

    Args:
        novelty: how far draws shall lie from the training codes, in units of held-out codes: 1 is as far as new data,
            below .95 a sampler copies.
        by_class: use the labels, where the codes have any; classes of fewer than 50 codes share a mixture.
        steps: of EM.
        seed: of k-means.
    """

    diagnostics: ClassVar[Mapping[str, str]] = {
        **MixtureSampler.diagnostics,
        "n_classes": "classes with a mixture of their own; 1 where labels are not used [count]",
    }

    def __init__(self, novelty: float = 1.0, by_class: bool = True, steps: int = 10, seed: int = 0) -> None:
        check_positive(novelty=novelty)
        check_count(steps=steps)
        check_seed(seed)
        self.novelty, self.by_class, self.steps, self.seed = novelty, by_class, steps, seed

    def _fit_mixture(self, codes: Codes) -> Any:
        """Return the mixtures of all classes as one."""
        groups = split_by_class(codes) if self.by_class else [codes]
        models = [self._fit_group(group) for group in groups]
        shares = [len(group.mu) / len(codes.mu) for group in groups]
        whole, self._n_classes = models[0], len(groups)
        whole.weights_ = np.concatenate([share * m.weights_ for share, m in zip(shares, models, strict=True)])
        for name in ("means_", "covariances_", "precisions_cholesky_"):
            setattr(whole, name, np.concatenate([getattr(model, name) for model in models]))
        whole.n_components = len(whole.weights_)
        return whole

    def _fit_group(self, codes: Codes) -> Any:
        mu, novelty = _as_array(codes.mu), Novelty(codes.mu, codes.held_out)
        components = self._find_components(mu, max(min(_count_distinct(codes.mu), len(mu) // 2), 1), novelty)
        model = self._refine(mu, components)
        while components > 1 and not self._is_novel(model, novelty, errors=2):  # EM moves components towards codes
            components = max(components * 7 // 8, 1)
            model = self._refine(mu, components)
        return model

    def _refine(self, mu: np.ndarray, components: int) -> Any:
        """Return the mixture after a few steps of EM from k-means clusters."""
        model = self._from_clusters(mu, components)
        start = (model.weights_, model.means_, model.covariances_)
        x, *parameters = (torch.from_numpy(values).to(self._like.device) for values in (mu, *start))
        refined = refine_mixture(x, *parameters, ridge=model.reg_covar, steps=self.steps)
        model.weights_, model.means_, model.covariances_ = (values.cpu().numpy() for values in refined)
        model.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(model.covariances_)).swapaxes(1, 2)
        return model

    def _find_components(self, mu: np.ndarray, most: int, novelty: Novelty) -> int:
        """Return the largest number of clusters, up to `most`, whose Gaussians give draws that are novel enough."""
        low, high = 1, min(8, most)
        while high < most and self._is_novel(self._from_clusters(mu, high), novelty):
            low, high = high, min(2 * high, most)  # upwards: many clusters take the longest
        while high > low + max(low // 8, 1):  # an eighth more or less hardly changes the novelty
            middle = round((low * high) ** 0.5)
            novel = self._is_novel(self._from_clusters(mu, middle), novelty)
            low, high = (middle, high) if novel else (low, middle)
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

    def _is_novel(self, model: Any, novelty: Novelty, errors: int = 1) -> bool:
        """Return whether draws are as novel as asked, within some standard errors of the measure."""
        model.random_state = self.seed
        z = torch.from_numpy(model.sample(PROBES)[0]).to(self._like)
        return novelty.scalars(z).get("nearest_code_ratio", 0.0) >= self.novelty * (1 - errors * PROBES**-0.5)

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        z, describe = super()._draw(n, generator)
        return z, lambda: SampleInfo({**describe().numbers, "n_classes": float(self._n_classes)})


def split_by_class(codes: Codes) -> list[Codes]:
    """Return the codes of each class with its held-out codes; small classes are together, and all where none is large.

    Held-out codes that are too few to say how far new data of their class lie are left out.
    """
    if codes.labels is None:
        return [codes]
    labels = codes.labels.to(codes.mu.device)
    values, counts = torch.unique(labels, return_counts=True)
    large = values[counts >= LEAST_CLASS]
    chosen = [(labels == value, value) for value in large]
    rest = ~torch.isin(labels, large)
    groups = []
    for rows, value in [*chosen, *([(rest, None)] if rest.any() else [])]:
        held_out = None
        if value is not None and codes.held_out is not None and codes.held_out_labels is not None:
            held_out = codes.held_out[codes.held_out_labels.to(codes.held_out.device) == value]
        enough = held_out is not None and len(held_out) >= LEAST_HELD_OUT
        groups.append(Codes(codes.mu[rows], held_out=held_out if enough else None))
    return groups


def _as_array(mu: Tensor) -> np.ndarray:
    """Return codes in float64: in float32 the covariances of close codes become singular."""
    array: np.ndarray = mu.detach().double().cpu().numpy()
    return array


def _count_distinct(mu: Tensor) -> int:
    """Return how many distinct codes there are: k-means cannot place more centres."""
    return len(torch.unique(mu, dim=0))


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


# Not scikit-learn's EM (Dempster et al. 1977): it loops over the components, of which there can be hundreds here, and
# knows no GPU. A log-density of a Gaussian is linear in the products of a point's coordinates: the E-step is a product
# of these with the coefficients of the components, and the M-step one product with the responsibilities.
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
