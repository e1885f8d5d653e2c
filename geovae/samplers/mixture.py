"""A Gaussian mixture with full covariances fitted to the means of the codes (Ghosh et al. 2020)."""

from typing import Self

import numpy as np
import torch

from geovae.codes import Codes
from geovae.geometry.centroids import check_codes
from geovae.samplers.base import Drawn, Sampler
from geovae.samplers.novelty import Novelty
from geovae.samplers.report import SampleInfo


class MixtureSampler(Sampler):
    """Draws from a Gaussian mixture, fitted by scikit-learn in float64.

    Args:
        n_components: components at most; fewer are used when there are not d + 1 codes for each.
        n_init: k-means starts of the EM algorithm, the best likelihood wins.
        seed: of those starts.
    """

    least_codes = 2

    def __init__(self, n_components: int = 10, n_init: int = 3, seed: int = 0) -> None:
        """Check the ranges."""
        if n_components < 1:
            raise ValueError(f"`n_components` must be at least 1, got {n_components}")
        if n_init < 1:
            raise ValueError(f"`n_init` must be at least 1, got {n_init}")
        if not 0 <= seed < 2**32:
            raise ValueError(f"`seed` must lie in [0, 2^32), got {seed}")
        self.n_components, self.n_init, self.seed = n_components, n_init, seed

    def fit(self, codes: Codes) -> Self:
        """Fit to the means of `codes`, 2 or more of them."""
        from sklearn.mixture import GaussianMixture

        n, d = check_codes(codes).mu.shape
        if n < self.least_codes:
            raise ValueError(f"a mixture needs {self.least_codes} codes or more, got {n}")
        distinct = len(torch.unique(codes.mu, dim=0))
        components = max(min(self.n_components, n // (d + 1), distinct), 1)
        self._model = GaussianMixture(components, n_init=self.n_init, random_state=self.seed)
        self._model.fit(codes.mu.detach().double().cpu().numpy())
        self._novelty = Novelty(codes.mu)
        self._like = codes.mu[:1]
        return self

    def _draw(self, n: int, generator: torch.Generator) -> Drawn:
        # scikit-learn returns the draws component by component
        seed = torch.randint(2**31, (), generator=generator, device=generator.device)
        random = np.random.RandomState(int(seed))
        self._model.random_state = random
        points = random.permutation(self._model.sample(n)[0])
        z = torch.from_numpy(points).to(self._like)
        components = float(self._model.n_components)
        return z, lambda: SampleInfo({"n_components": components, **self._novelty.scalars(z)})
