"""Riemannian Hamiltonian VAE (Chadebec et al. 2020): an HVAE whose kinetic energy uses a learnt metric.

`H(z, rho) = U(z) + rho^T F(z) rho / 2 - log det F(z) / 2`, F = G^-1 as in `cometric.py`, integrated by the generalised
leapfrog (Girolami & Calderhead 2011), whose two implicit half steps are solved by fixed-point iteration. In training
the centroids are the batch's own means; otherwise they are those of training images, kept with the weights.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from geovae.checks import check_count, check_positive
from geovae.codes import Codes
from geovae.images import to_float
from geovae.models.cometric import Cometric, MetricNetwork, Place
from geovae.models.contract import Toy
from geovae.models.hvae import HVAE, Flow
from geovae.models.networks import ImageShape, at_least_float32
from geovae.models.vae import Likelihood, sample_posterior


class RHVAE(HVAE):
    """HVAE with a metric learnt from the images; the sampler `rhvae` draws from it, and so do all samplers of a VAE.

    Args:
        image_shape: (channels, height, width) of the images.
        likelihood: `bernoulli` (the cross entropy) or `gaussian` (the squared error of Eq. 3).
        n_fixed_point: iterations for each implicit half step.
        temperature: T > 0, how far a centroid of the metric reaches.
        floor: lambda > 0, the inverse metric far from every centroid.
        metric_width: hidden units of the metric network.
        n_centroids: training images, at even distances in the set, whose codes carry the metric after training.
        **options: of `HVAE`; `through_force` here differentiates every fixed-point iteration too.
    """

    toy = Toy({"beta": 0.05, "likelihood": "gaussian", "n_centroids": 50})
    centroids: Tensor
    values: Tensor

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        likelihood: Likelihood = "bernoulli",
        n_fixed_point: int = 3,
        temperature: float = 0.8,
        floor: float = 1e-3,
        metric_width: int = 400,
        n_centroids: int = 1000,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, likelihood=likelihood, **options)
        check_count(n_fixed_point=n_fixed_point, metric_width=metric_width, n_centroids=n_centroids)
        check_positive(temperature=temperature, floor=floor)
        self.metric_network = MetricNetwork(image_shape, self.latent_dim, metric_width)
        self.n_fixed_point, self.temperature, self.floor = n_fixed_point, temperature, floor
        # A slot that no image fills has V = 0 and adds nothing to the metric.
        self.register_buffer("centroids", torch.zeros(n_centroids, self.latent_dim))
        self.register_buffer("values", torch.zeros(n_centroids, self.latent_dim, self.latent_dim))

    @torch.no_grad()
    def end_epoch(self, images: Tensor) -> None:
        """Set the metric that validation and sampling use from training images (n, c, h, w) and the weights of now."""
        was_training = self.training
        self.eval()
        used = min(len(self.centroids), len(images))
        chosen = torch.linspace(0, len(images) - 1, used).round().long().to(images.device)
        self.values.zero_()  # a smaller set must not leave matrices of an earlier one
        for slots in torch.arange(used).split(500):
            x = to_float(images[chosen[slots.to(chosen.device)]].to(self.centroids.device), self.centroids.dtype)
            part = slice(int(slots[0]), int(slots[-1]) + 1)
            self.centroids[part] = self.encode(x).mu
            self.values[part] = squares(self.metric_network(x))
        self.train(was_training)

    def latent_tensors(self) -> dict[str, Tensor]:
        """Return what the sampler `rhvae` needs: centroids (k, d), matrices (k, d, d), temperature and floor."""
        numbers = {"metric.temperature": self.temperature, "metric.floor": self.floor}
        tensors = {name: self.centroids.new_tensor(value) for name, value in numbers.items()}
        return {"metric.centroids": self.centroids, "metric.values": self.values} | tensors

    def metric_around(self, x: Tensor, codes: Codes) -> Cometric:
        """Return the metric of the batch in training, of the stored centroids otherwise."""
        if not self.training:
            return Cometric(self.centroids, self.values, self.temperature, self.floor)
        return Cometric(codes.mu, squares(self.metric_network(x)), self.temperature, self.floor)

    def flow(self, x: Tensor, codes: Codes, generator: Generator) -> Flow:
        """Draw z_0 and a momentum N(0, G(z_0) / beta_0), and follow them for K generalised leapfrog steps."""
        metric = self.metric_around(x, codes)
        start = z = sample_posterior(codes, generator)
        noise = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
        step, ratios = self.step_size(), self.cooling()
        errors, force = self.force(x, z)
        with torch.autocast(z.device.type, enabled=False):  # determinants and differences of squares need the digits
            first = place = metric.at(z)
            rho = place.momentum(noise) / ratios.prod()
        for ratio in ratios:
            with torch.autocast(z.device.type, enabled=False):
                rho = self._half_kick(metric, place, rho, force, step)
                place = metric.at(self._drift(metric, place, rho, step))
            errors, force = self.force(x, place.z)
            with torch.autocast(z.device.type, enabled=False):
                rho = (rho - 0.5 * step * (force + metric.slope(place, rho))) * ratio
        with torch.autocast(z.device.type, enabled=False):
            kinetic = 0.5 * (rho * place.velocity(rho) - noise.square()).sum(1)
        return Flow(start, place.z, errors, kinetic - 0.5 * (place.log_det() - first.log_det()))

    def _half_kick(self, metric: Cometric, place: Place, rho: Tensor, force: Tensor, step: Tensor | float) -> Tensor:
        """Solve `p = rho - step / 2 (grad U + grad T(z, p))` for p."""
        return self._fixed_point(lambda p: rho - 0.5 * step * (force + metric.slope(place, p)), rho)

    def _drift(self, metric: Cometric, place: Place, rho: Tensor, step: Tensor | float) -> Tensor:
        """Solve `z' = z + step / 2 (F(z) + F(z')) rho` for z'."""
        here = place.velocity(rho)
        start = place.z + step * here
        return self._fixed_point(lambda z: place.z + 0.5 * step * (here + metric.velocity(z, rho)), start)

    def _fixed_point(self, update: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
        """Iterate `update`; for an approximate gradient all but the last iteration are a constant added to `start`."""
        point = start
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.through_force):
            for _ in range(self.n_fixed_point - 1):
                point = update(point)
        return update(point if self.through_force else start + (point - start).detach())


def squares(factors: Tensor) -> Tensor:
    """Return L L^T of L (b, d, d)."""
    factors = at_least_float32(factors)
    with torch.autocast(factors.device.type, enabled=False):
        return factors @ factors.mT
