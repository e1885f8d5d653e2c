"""Codes: the encodings of a data set, which are all that geometry and samplers need of a model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from geovae.devices import full_precision
from geovae.images import to_float


@dataclass(frozen=True, eq=False)
class Codes:
    """Posterior means and log variances of `n` images in `d` latent dimensions; unpacks into `mu, log_var`.

    `mu` and `log_var` are (n, d); `log_var` is None for a deterministic encoder. The posterior covariance of
    image i is Sigma_i = diag(exp(log_var[i])). `extras` holds, by name, the tensors of a prior or a metric that belongs
    to the model itself (its callback `latent_tensors`), for the sampler that draws from it. `held_out` (m, d) are the
    means of images that the model was not trained on: they show how far new data lie from the codes. `labels` (n,) and
    `held_out_labels` (m,) are the classes of the images, where they have any.
    """

    mu: Tensor
    log_var: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    held_out: Tensor | None = None
    labels: Tensor | None = None
    held_out_labels: Tensor | None = None

    def __iter__(self) -> Iterator[Any]:
        """Yield `mu`, then `log_var`."""
        return iter((self.mu, self.log_var))

    def to(self, device: torch.device | str) -> "Codes":
        """Return the codes on a device, where samplers then fit and draw."""
        moved = {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
        extras = {name: value.to(device) for name, value in self.extras.items()}
        return replace(self, extras=extras, **{name: value.to(device) for name, value in moved.items()})

    def of_class(self, label: int) -> "Codes":
        """Return the codes of one class: a sampler that is fitted on them draws that class.

        Raises:
            ValueError: if no code has this label.
        """
        if self.labels is None or not (rows := self.labels == label).any():
            found = "none" if self.labels is None else ", ".join(map(str, self.labels.unique().tolist()[:20]))
            raise ValueError(f"`label` must be a class of the codes, got {label}; they have: {found}")
        log_var = None if self.log_var is None else self.log_var[rows]
        held_out, of_held_out = self.held_out, self.held_out_labels
        if held_out is None or of_held_out is None or not (kept := of_held_out == label).any():
            held_out = of_held_out = None  # those of other classes do not show how far new data of this one lie
        else:
            held_out, of_held_out = held_out[kept], of_held_out[kept]
        mu, labels = self.mu[rows], self.labels[rows]
        return Codes(mu, log_var, self.extras, held_out=held_out, labels=labels, held_out_labels=of_held_out)


class Encoder(Protocol):
    """Anything that encodes a batch of images (b, c, h, w) in [0, 1] into `Codes`."""

    def encode(self, x: Tensor) -> Codes:
        """Return the codes of `x`."""


@full_precision()  # the metric is made of them
@torch.no_grad()
def encode_images(model: Encoder, images: Tensor, *, batch_size: int = 500) -> Codes:
    """Encode `images` (n, c, h, w), uint8 or float, batch by batch on the model's device; codes are on the CPU.

    The model is used as it stands: call `model.eval()` first.
    """
    device = next(iter(model.parameters())).device  # type: ignore[attr-defined]
    batches = [model.encode(to_float(x.to(device))) for x in images.split(batch_size)]
    mu = torch.cat([b.mu.float().cpu() for b in batches])
    log_vars = [b.log_var.float().cpu() for b in batches if b.log_var is not None]
    return Codes(mu, torch.cat(log_vars) if log_vars else None, latent_tensors(model))


@torch.no_grad()
def latent_tensors(model: object) -> dict[str, Tensor]:
    """Return the tensors of the model's prior or metric, copied to the CPU; most models have none."""
    tensors = model.latent_tensors() if hasattr(model, "latent_tensors") else {}
    return {name: value.detach().float().cpu().clone() for name, value in tensors.items()}
