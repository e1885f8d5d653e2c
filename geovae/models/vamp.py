"""VampPrior (Tomczak & Welling 2018): the prior is the mean posterior of K pseudo-inputs, `(1/K) sum_k q(z | u_k)`.

The divergence to a mixture has no closed form: the loss uses `log q(z | x) - log p(z)` at the z that it draws.
"""

import math
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from geovae.checks import check_choice, check_count
from geovae.codes import Codes
from geovae.geometry.fields import DiagonalFeatures
from geovae.images import to_float
from geovae.models.contract import Toy
from geovae.models.networks import ImageShape
from geovae.models.vae import VAE, log_normal, sample_posterior


def log_mixture(z: Tensor, codes: Codes) -> Tensor:
    """Return log (1/K) sum_k N(z; mu_k, diag exp(log_var_k)): z (b, d), codes of K -> (b,); no (b, K, d) array."""
    mu, log_var = codes
    centre = mu.detach().mean(0)  # squares of large numbers would lose their digits
    features = DiagonalFeatures()
    exponents = features.forms(mu - centre, (-log_var).exp())(features(z - centre))  # minus the squared distances
    constants = log_var.sum(1) + mu.shape[1] * math.log(2 * math.pi)
    return (0.5 * (exponents - constants)).logsumexp(1) - math.log(len(mu))


class VAMP(VAE):
    """VAE whose prior is a mixture of its posteriors; the sampler `vamp` draws from it.

    Args:
        image_shape: (channels, height, width) of the images.
        n_pseudo_inputs: K, the components of the prior.
        pseudo_inputs: `learnt`, starting from random training images, or `data`, which keeps those images.
        warm_up: epochs over which beta grows from 0 to its value while training; 0 for none.
        **options: of `VAE`; `beta` is the weight of the divergence to the learnt prior.
    """

    toy = Toy({"beta": 0.05, "n_pseudo_inputs": 20, "warm_up": 5})

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        n_pseudo_inputs: int = 500,
        pseudo_inputs: Literal["learnt", "data"] = "learnt",
        warm_up: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, **options)
        check_count(n_pseudo_inputs=n_pseudo_inputs)
        check_choice("pseudo_inputs", pseudo_inputs, ("learnt", "data"))
        check_count(low=0, warm_up=warm_up)
        start = torch.randn(n_pseudo_inputs, *image_shape)  # until `prepare` sets them
        self.learnt = pseudo_inputs == "learnt"
        if self.learnt:
            self.pseudo = nn.Parameter(start)  # logits: u = sigmoid(pseudo) stays an image
        else:
            self.register_buffer("pseudo", start.sigmoid())
        self.warm_up = warm_up
        self.beta_share = 1.0

    def prepare(self, images: Tensor, generator: Generator) -> None:
        """Set the pseudo-inputs to random training images (n, c, h, w), with repetition if there are too few."""
        k, n = len(self.pseudo), len(images)
        order = torch.randperm(n, generator=generator, device=generator.device).repeat(-(-k // n))[:k]
        chosen = to_float(images[order.to(images.device)]).to(self.pseudo)
        with torch.no_grad():
            # Black and white have infinite logits.
            self.pseudo.copy_(chosen.clamp(0.05, 0.95).logit() if self.learnt else chosen)

    def begin_epoch(self, epoch: int) -> None:
        """Set the share of beta for training in this epoch, counted from 1."""
        self.beta_share = min(1.0, epoch / self.warm_up) if self.warm_up else 1.0

    def prior_codes(self) -> Codes:
        """Return the codes of the pseudo-inputs: the components of the prior."""
        return self.encode(self.pseudo.sigmoid() if self.learnt else self.pseudo)

    def latent_tensors(self) -> dict[str, Tensor]:
        """Return what the sampler `vamp` needs: means and log variances (K, d) of the prior."""
        mu, log_var = self.prior_codes()
        return {"prior.mu": mu, "prior.log_var": log_var}

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z) (b,) under the mixture."""
        codes = self.prior_codes()
        with torch.autocast(z.device.type, enabled=False):
            return log_mixture(z, codes)

    def loss(self, x: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Return `loss` and its parts `reconstruction` and `kl`, one draw of log q(z|x) - log p(z), batch means.

        Validation always weighs with the whole of beta: epochs of the warm-up would otherwise look the best.
        """
        codes = self.encode(x)
        z = sample_posterior(codes, generator)
        reconstruction = self.errors(x, z).mean()
        kl = (log_normal(z, codes) - self.log_prior(z)).mean()
        beta = self.beta * (self.beta_share if self.training else 1.0)
        return {"loss": reconstruction + beta * kl, "reconstruction": reconstruction, "kl": kl}
