"""One face for all autoencoders: images (b, c, h, w) to `Codes` (b, d), and latents (b, d) to images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from geovae.codes import Codes

Encode = Callable[[Tensor], Any]
Decode = Callable[[Tensor], Tensor]


class Adapter(nn.Module):
    """An autoencoder from elsewhere, with the `encode` and `decode` of a model of geovae.

    Args:
        encode: images (b, c, h, w) in [0, 1] to `(mu, log_var)`, `mu` or `Codes`, of any shape (b, ...).
        decode: latents, in the shape that `encode` returned, to images (b, c, h, w) in [0, 1].
        module: what the two compute with, if anything: gives the device and the precision.
        latent_shape: of one image's latents; by default that of the first images that are encoded.

    `margin`, 0 at first, is the width of a black rim of the images that `encode` and `decode` do not know: MNIST has
    28x28 pixels elsewhere, and 32x32 here.
    """

    def __init__(
        self,
        encode: Encode,
        decode: Decode,
        module: nn.Module | None = None,
        latent_shape: tuple[int, ...] | None = None,
    ) -> None:
        """Keep the parts; nothing is computed."""
        super().__init__()
        self.module = module
        self._encode, self._decode = encode, decode
        self.latent_shape, self.margin = latent_shape, 0
        if next(self.parameters(), None) is None:  # images are moved to the device of the parameters
            self.place = nn.Parameter(torch.empty(0), requires_grad=False)

    def encode(self, x: Tensor) -> Codes:
        """Return the codes (b, d) of images (b, c, h, w) in [0, 1]."""
        like = next(self.parameters())
        rows, columns = (slice(self.margin, size - self.margin) for size in x.shape[-2:])
        mu, log_var = _split(self._encode(x[..., rows, columns].to(like)))
        if not isinstance(mu, Tensor) or mu.ndim < 2 or len(mu) != len(x):
            raise ValueError(
                f"`encode` must return one mean for each of the {len(x)} images, as a tensor ({len(x)}, ...), "
                f"got {_describe(mu)}; return `(mu, log_var)` or `mu`"
            )
        if log_var is not None and (not isinstance(log_var, Tensor) or log_var.shape != mu.shape):
            raise ValueError(
                f"`encode` must return log variances of the shape of the means, {_describe(mu)}, got "
                f"{_describe(log_var)}; return `mu` alone if there are none"
            )
        self.latent_shape = self.latent_shape or tuple(mu.shape[1:])
        return Codes(mu.flatten(1), None if log_var is None else log_var.flatten(1))

    def decode(self, z: Tensor) -> Tensor:
        """Return images (b, c, h, w) of latents (b, d)."""
        return pad(
            self._decode(z if self.latent_shape is None else z.unflatten(1, self.latent_shape)), [self.margin] * 4
        )


def adapt(model: Any) -> Adapter:
    """Return `model` as an `Adapter`: a module with `encode` and `decode`, or a pair of callables.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(model, Adapter):
        return model
    if isinstance(model, tuple) and len(model) == 2 and all(callable(part) for part in model):
        encode, decode = model
        # a bound method brings its module along
        owners = [getattr(part, "__self__", part) for part in model]
        modules = [owner for owner in owners if isinstance(owner, nn.Module)]
        return Adapter(encode, decode, nn.ModuleList(modules) if modules else None)
    if isinstance(model, nn.Module) and all(callable(getattr(model, name, None)) for name in ("encode", "decode")):
        return Adapter(model.encode, model.decode, model)  # type: ignore[arg-type]
    raise ValueError(
        "`model` must be a torch module with `encode` and `decode`, or a pair of callables, got "
        f"{type(model).__name__}; pass `(encode, decode)`: images in [0, 1] to `(mu, log_var)`, latents to such images"
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold `model` in evaluation mode; every part returns to its own mode after."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _split(output: Any) -> tuple[Any, Any]:
    if isinstance(output, Codes):
        return output.mu, output.log_var
    if isinstance(output, tuple | list) and len(output) == 2:
        return output[0], output[1]
    return output, None


def _describe(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
