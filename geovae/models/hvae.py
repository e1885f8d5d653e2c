"""Hamiltonian VAE (Caterini et al. 2018): leapfrog steps move the draw from the posterior towards p(z | x).

`U(z) = -log p(x, z)`, momentum `rho_0 = gamma / sqrt(beta_0)` with gamma ~ N(0, I), K steps, each followed by cooling
`rho <- rho sqrt(beta_{k-1} / beta_k)` until beta_K = 1. The map has Jacobian `beta_0^(d/2)`, which cancels the density
of the hot momentum, so that `ELBO = E[log p(x, z_K) - |rho_K|^2 / 2 - log q(z_0 | x) + |gamma|^2 / 2]`.
"""

import math
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

from geovae.checks import check_choice, check_count, check_positive, check_share
from geovae.codes import Codes
from geovae.models.networks import ImageShape
from geovae.models.vae import VAE, log_normal, sample_posterior

LARGEST_STEP = 0.5  # a leapfrog is stable below 2 / sqrt(largest curvature), and the prior alone has curvature 1


class Flow(NamedTuple):
    """Where the leapfrog began and ended: z_0, z_K (b, d), the errors at z_K (b,), and the momentum's cost (b,).

    `kinetic` is `log N(gamma) - log p(rho_K | z_K)`, corrected by the volume of the map.
    """

    start: Tensor
    end: Tensor
    errors: Tensor
    kinetic: Tensor


class HVAE(VAE):
    """VAE that moves its latents by Hamiltonian steps before it decodes them.

    Args:
        image_shape: (channels, height, width) of the images.
        n_leapfrog: K, steps of the leapfrog.
        step_size: of the leapfrog, at most 0.5.
        learn_step_size: train the step size too; it stays below 0.5.
        tempering: `fixed`, the quadratic schedule from beta_zero to 1, or `free`, every ratio is learnt from there.
        beta_zero: inverse temperature of the first momentum, above 0 and at most 1; 1 is no tempering.
        through_force: differentiate the forces too, for the exact gradient of the bound; without it, as is usual, a
            step costs about half and the gradient is off by the order of the step size.
        **options: of `VAE`; `beta`, here above 0, is the weight of all that is not the reconstruction.
    """

    fixed_ratios: Tensor

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        n_leapfrog: int = 1,
        step_size: float = 1e-3,
        learn_step_size: bool = False,
        tempering: Literal["fixed", "free"] = "fixed",
        beta_zero: float = 0.3,
        through_force: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, **options)
        check_positive(beta=self.beta, step_size=step_size)
        check_count(n_leapfrog=n_leapfrog)
        check_share(beta_zero=beta_zero)
        check_choice("tempering", tempering, ("fixed", "free"))
        if step_size > LARGEST_STEP or (learn_step_size and step_size == LARGEST_STEP):
            raise ValueError(f"`step_size` must be at most {LARGEST_STEP} (below it to be learnt), got {step_size}")
        if tempering == "free" and beta_zero == 1:
            raise ValueError("`beta_zero` must be below 1 to be learnt with `tempering` free, got 1")
        self.n_leapfrog = n_leapfrog
        # The trainer refuses to compile second derivatives.
        self.through_force = self.second_derivatives = through_force
        self.fixed_step, self.step_logit = step_size, None
        if learn_step_size:
            # A sigmoid keeps it in range.
            self.step_logit = nn.Parameter(torch.tensor(step_size / LARGEST_STEP).logit())
        ratios = torch.tensor(quadratic_ratios(beta_zero, n_leapfrog))
        self.ratio_logits = nn.Parameter(ratios.logit()) if tempering == "free" else None
        self.register_buffer("fixed_ratios", ratios, persistent=False)  # follows from the options, so not in the file

    def step_size(self) -> Tensor | float:
        """Return the leapfrog step as it is now."""
        return self.fixed_step if self.step_logit is None else LARGEST_STEP * self.step_logit.sigmoid()

    def cooling(self) -> Tensor:
        """Return sqrt(beta_{k-1} / beta_k), (K,); their product is sqrt(beta_0)."""
        return self.fixed_ratios if self.ratio_logits is None else self.ratio_logits.sigmoid()

    def force(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the errors (b,) at z and the gradient (b, d) of U = errors / beta + |z|^2 / 2."""
        training = torch.is_grad_enabled()
        with torch.enable_grad():  # validation needs forces too
            at = z if z.requires_grad else z.detach().requires_grad_()
            errors = self.errors(x, at)
            (gradient,) = torch.autograd.grad(
                errors.sum(), at, create_graph=training and self.through_force, retain_graph=training
            )
        return errors if training else errors.detach(), gradient / self.beta + z

    def flow(self, x: Tensor, codes: Codes, generator: Generator) -> Flow:
        """Draw z_0 and a momentum, and follow them for K leapfrog steps with cooling (their Algorithm 1)."""
        start = z = sample_posterior(codes, generator)
        noise = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
        step, ratios = self.step_size(), self.cooling()
        rho = noise / ratios.prod()
        errors, force = self.force(x, z)
        for ratio in ratios:
            rho = rho - 0.5 * step * force
            z = z + step * rho
            errors, force = self.force(x, z)
            rho = (rho - 0.5 * step * force) * ratio
        return Flow(start, z, errors, 0.5 * (rho.square() - noise.square()).sum(1))

    def loss(self, x: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Return `loss` (minus beta ELBO) and its parts `reconstruction` and `kl`, batch means.

        `kl` is all of the bound but the reconstruction; without steps and tempering it would be the VAE's.

        Raises:
            ValueError: if the leapfrog diverges.
        """
        codes = self.encode(x)
        end = self.flow(x, codes, generator)
        assert codes.log_var is not None
        minus_entropy = -0.5 * (codes.log_var + 1).sum(1)  # E log q(z_0 | x); the two d/2 log 2 pi cancel
        kl = (minus_entropy + 0.5 * end.end.square().sum(1) + end.kinetic).mean()
        reconstruction = end.errors.mean()
        loss = reconstruction + self.beta * kl
        self._check_finite(loss)
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl}

    def log_weight(self, x: Tensor, codes: Codes, generator: Generator) -> Tensor:
        """Return one log importance weight (b,): the bound inside the expectation, at one draw."""
        end = self.flow(x, codes, generator)
        joint = self.log_conditional(x, end.errors) + self.log_prior(end.end)
        return joint - end.kinetic - log_normal(end.start, codes)

    def _check_finite(self, loss: Tensor) -> None:
        if loss.is_cuda and torch.cuda.is_current_stream_capturing():  # the trainer looks at the end of the epoch
            return
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(
                f"the leapfrog diverged: the loss is {value}; lower `step_size` (now {float(self.step_size()):g}) "
                "or the learning rate, or clip gradients with `clip_grad_norm`"
            )


def quadratic_ratios(beta_zero: float, n: int) -> list[float]:
    """Return sqrt(beta_{k-1} / beta_k), k = 1..n, of `1 / sqrt(beta_k) = h + (1 - h) k^2 / n^2` from h at k = 0."""
    hot = 1 / math.sqrt(beta_zero)
    inverse = [(1 - hot) * (k / n) ** 2 + hot for k in range(n + 1)]
    return [after / before for before, after in pairwise(inverse)]
