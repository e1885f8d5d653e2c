"""The temperature rho of Eq. 7: the published rule, and rules that use the distances which enter the weights.

The published rule is Euclidean, `rho = max_i min_{j != i} |c_i - c_j|`. Sharp posteriors make the Mahalanobis distances
`D_i(z)^2 = (z - c_i)^T V_i (z - c_i)` tens of times larger, and almost every code is left on the flat floor.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from geovae.checks import check_share
from geovae.devices import full_precision
from geovae.geometry.fields import DiagonalFeatures, Features, FullFeatures
from geovae.geometry.metric import LatentMetric

BLOCK = 2**22  # numbers in one (n, k) block


def published_temperature(centroids: Tensor) -> float:
    """Return `max_i min_{j != i} |c_i - c_j|` of centroids (k, d), k > 1."""
    k = len(centroids)
    if k < 2:
        raise ValueError("the published temperature needs 2 centroids or more, got 1; give `temperature` a number")
    ones = torch.ones_like(centroids)
    return _positive(float(nearest_distances(centroids, centroids, ones, exclude=torch.arange(k)).max()))


def coverage_temperature(
    z: Tensor, centroids: Tensor, values: Tensor, *, coverage: float, exclude: Tensor | None = None
) -> float:
    """Return the `coverage` quantile of the codes' Mahalanobis distance to their nearest centroid.

    At this rho that share of the codes z (n, d) has a centroid of weight exp(-1) or more. `centroids` are (k, d),
    `values` their inverse variances (k, d) or covariances (k, d, d); `coverage` lies in (0, 1]. `exclude` (n,) is, for
    each code, the index of the centroid to leave out because it is this code, or -1.
    """
    check_share(coverage=coverage)
    distances = nearest_distances(z, centroids, values, exclude=exclude)
    distances = distances[
        torch.isfinite(distances)
    ]  # one centroid alone, left out for its exclude code, is infinitely far
    if len(distances) == 0:
        raise ValueError("a coverage temperature needs 2 codes or more, got 1; give `temperature` a number")
    # Torch's quantile refuses more than 2^24 numbers.
    return _positive(float(torch.quantile(distances[:100_000], coverage)))


def likelihood_temperature(
    z: Tensor, centroids: Tensor, values: Tensor, *, sharpness: float = 1.0, exclude: Tensor | None = None
) -> float:
    """Return the rho whose bumps, as a mixture of `N(c_i, rho^2 / (d sharpness) Sigma_i)`, make the codes likeliest.

    Arguments as in `coverage_temperature`. With held-out codes, or with `exclude`, this is a bandwidth chosen by
    validation: the likelihood is low both for bumps that miss the codes and for bumps wider than the data.
    """
    d = z.shape[1]
    start = coverage_temperature(z, centroids, values, coverage=0.5, exclude=exclude) / math.sqrt(d)
    scales = [start * 2 ** (e / 4) for e in range(-16, 9)]  # from 1/16 to 4 times the start
    scores = _mixture_log_likelihoods(z, centroids, values, scales, exclude)
    best = max(range(len(scales)), key=scores.__getitem__)
    return scales[best] * math.sqrt(d * sharpness)


def _mixture_log_likelihoods(
    z: Tensor, centroids: Tensor, values: Tensor, scales: list[float], exclude: Tensor | None
) -> list[float]:
    """Return the mean log likelihood of z for each scale s of the components N(c_i, s^2 Sigma_i), up to a constant."""
    d = z.shape[1]
    heights = 0.5 * (values.double().log().sum(1) if values.ndim == 2 else torch.logdet(values.double()))
    totals = [0.0] * len(scales)
    for squared in _squared_distances(z, centroids, values, exclude):
        for i, s in enumerate(scales):
            densities = torch.logsumexp(heights - squared / (2 * s * s), dim=1) - d * math.log(s)
            totals[i] += float(densities.sum())
    return totals


@full_precision()
def nearest_distances(z: Tensor, centroids: Tensor, values: Tensor, *, exclude: Tensor | None = None) -> Tensor:
    """Return `min_i D_i(z)` (n,), float64, of points z (n, d); arguments as in `coverage_temperature`."""
    blocks = [squared.min(1).values for squared in _squared_distances(z, centroids, values, exclude)]
    return torch.cat(blocks).sqrt()


def _squared_distances(z: Tensor, centroids: Tensor, values: Tensor, exclude: Tensor | None) -> Iterator[Tensor]:
    """Yield D_i(z)^2 in blocks of rows (m, k), infinite where centroid i is the code itself."""
    z, centroids, values = z.double(), centroids.double(), values.double()
    origin = centroids.mean(0)  # squares of large numbers would lose their digits
    features: Features = DiagonalFeatures() if values.ndim == 2 else FullFeatures()
    forms = features.forms(centroids - origin, values)
    rows = max(BLOCK // len(centroids), 1)
    for start in range(0, len(z), rows):
        x = z[start : start + rows] - origin
        squared = -forms(features(x))
        if exclude is not None:
            set_excluded(squared, exclude[start : start + rows], math.inf)
        yield squared.clamp_min_(0)


def set_excluded(table: Tensor, exclude: Tensor, value: float) -> None:
    """Set `table[r, exclude[r]] = value` in place for every row r (n, k) whose `exclude` (n,) is not -1."""
    rows = torch.nonzero(exclude >= 0).squeeze(1).to(table.device)
    table[rows, exclude.to(table.device)[rows]] = value


def above_floor(metric: LatentMetric, z: Tensor, *, exclude: Tensor | None = None) -> Tensor:
    """Return for each code of z (n, d) whether the centroids outweigh the floor there, `tr sum_i V_i w_i > d f`; (n,).

    On the floor the density is flat, the force is zero, and a chain walks away. `exclude` as in `coverage_temperature`.
    """
    flat = metric.values if metric.values.ndim == 2 else metric.values.diagonal(dim1=1, dim2=2)
    traces, found = flat.sum(1), []
    floor = (2 / metric.d * metric.floor_log_volume(z) * (1 if metric.tensor == "metric" else -1)).exp()
    rows = max(BLOCK // metric.k, 1)
    for start in range(0, len(z), rows):
        part = slice(start, start + rows)
        weights = metric.centroid_weights(z[part])
        if exclude is not None:
            set_excluded(weights, exclude[part], 0.0)
        found.append(weights @ traces > metric.d * floor[part])
    return torch.cat(found)


def fraction_above_floor(metric: LatentMetric, z: Tensor, *, exclude: Tensor | None = None) -> float:
    """Return the share of the codes z (n, d) that lie above the floor; see `above_floor`."""
    return float(above_floor(metric, z, exclude=exclude).double().mean())


def _positive(temperature: float) -> float:
    if not temperature > 0:
        raise ValueError(
            "the temperature rule gives 0 because centroids or codes coincide; "
            "give `temperature` a number or remove the duplicates"
        )
    return temperature
