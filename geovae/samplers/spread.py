"""How draws spread over the codes: a sampler may stay on the data and still give ones and little else.

Where bumps of a metric overlap, its volume grows as a power of their number, and a chain ends where codes are densest
(docs/volume.md). Distances to the nearest code do not see it; the shares of clusters of codes do.
"""

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from geovae.neighbours import nearest

CLUSTERS, CODES_A_CLUSTER = 20, 20  # fewer clusters where there are fewer codes
CLUSTERED = 5000  # codes that are clustered; their centres need no more
MOST_PILED = 0.3  # share of the samples in the wrong cluster, beyond chance, from which on a warning says so

SPREAD: Mapping[str, str] = {
    "cluster_share_distance": "share of samples that would have to change the cluster of codes to match the codes' own "
    "shares, beyond chance [part of 1]; lower is better",
    "codes_reached": "effective number of training codes that samples are nearest to [count]; higher is better",
}


class Spread:
    """Shares of clusters of the codes mu (n, d), found by k-means when they are first asked for."""

    def __init__(self, mu: Tensor) -> None:
        """Keep the codes."""
        self.mu = mu.detach()
        self._clusters: tuple[Tensor, Tensor] | None = None

    def scalars(self, z: Tensor) -> dict[str, float]:
        """Return the numbers of `SPREAD` for samples z (m, d); nothing where codes are too few to tell."""
        k = min(CLUSTERS, len(torch.unique(self.mu[:CLUSTERED], dim=0)) // CODES_A_CLUSTER)
        if k < 2 or len(z) < 2:
            return {}
        centres, shares = self._clusters = self._clusters or self._find_clusters(k)
        found = _shares(z, centres)
        # two samples differ by chance: by this much in the mean, as differences of shares are nearly normal
        variance = shares * (1 - shares) * (1 / len(z) + 1 / len(self.mu))
        chance = float((2 * variance / math.pi).sqrt().sum()) / 2
        distance = float((found - shares).abs().sum()) / 2
        return {
            "cluster_share_distance": max(distance - chance, 0.0),
            "codes_reached": count_effective(nearest(z, self.mu).indices, len(self.mu)),
        }

    def _find_clusters(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the centres (k, d) of the clusters, and the codes' shares (k,)."""
        from sklearn.cluster import KMeans

        rows = torch.arange(0, len(self.mu), max(len(self.mu) // CLUSTERED, 1))
        points = self.mu[rows.to(self.mu.device)].double().cpu().numpy()
        centres = torch.from_numpy(KMeans(k, n_init=1, random_state=0).fit(points).cluster_centers_)
        return centres, _shares(self.mu, centres)


def _shares(z: Tensor, centres: Tensor) -> Tensor:
    """Return which share of the points z (m, d) is nearest to each centre (k, d)."""
    indices = nearest(z.double().cpu(), centres).indices
    return torch.bincount(indices, minlength=len(centres)).double() / len(z)


def count_effective(indices: Tensor, n: int) -> float:
    """Return the inverse probability that two draws (m,) from n things agree, without bias; at most n."""
    counts = torch.bincount(indices).double()
    agree = float((counts * (counts - 1)).sum()) / (len(indices) * (len(indices) - 1))
    return float(n) if agree == 0 else min(1 / agree, float(n))


def warn_if_piled(numbers: Mapping[str, float], name: str) -> None:
    """Warn when too many samples lie in the wrong clusters of codes."""
    piled = numbers.get("cluster_share_distance", 0.0)
    if piled > MOST_PILED:
        warnings.warn(
            f"{name}: {piled:.0%} of the samples would have to change their cluster of codes to match the codes' own "
            f"shares: they pile up, and reach an effective {numbers['codes_reached']:.0f} codes; use sampler "
            "'fine_mixture' or 'local', or the Riemannian sampler's preset 'published'",
            stacklevel=3,
        )
