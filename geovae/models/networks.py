"""The encoder and decoder networks of the paper (App. D), built from the image's shape and the network's name.

`conv32`, `conv64` and `conv_oasis` are convolutional and fit one image size; `mlp` fits any, and so does `conv3d`,
which reads an image as a volume (geovae.models.conv3d). `width` scales them: the filters of the first convolution
(units of the first layer for `mlp`), by default the paper's.
"""

from math import prod
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from geovae.checks import shown
from geovae.models import conv3d

NetworkName = Literal["mlp", "conv32", "conv64", "conv_oasis", "conv3d"]
ImageShape = tuple[int, int, int]
Pair = int | tuple[int, int]


class Conv(NamedTuple):
    """One (transposed) convolution; `filters` is a multiple of the width, 0 stands for the image's channels."""

    filters: int
    kernel: int
    stride: Pair
    padding: Pair
    output_padding: int = 0


class ConvNetwork(NamedTuple):
    """A convolutional encoder and its decoder, as tables; the decoder starts from 8 x 8 feature maps."""

    size: tuple[int, int]
    encoder: tuple[Conv, ...]
    decoder: tuple[Conv, ...]
    paper_width: int = 128
    batch_norm: bool = True
    tanh_log_var: bool = False


CONV_NETWORKS: dict[str, ConvNetwork] = {
    "conv32": ConvNetwork(
        size=(32, 32),
        encoder=tuple(Conv(m, 4, 2, 1) for m in (1, 2, 4, 8)),
        decoder=(Conv(4, 4, 2, 1), Conv(2, 4, 2, 1, output_padding=1), Conv(0, 4, 1, 2)),
    ),
    "conv64": ConvNetwork(
        size=(64, 64),
        encoder=(Conv(1, 5, 2, 1), Conv(2, 5, 2, 1), Conv(4, 5, 2, 2), Conv(8, 5, 2, 2)),
        decoder=(Conv(4, 5, 2, 2), Conv(2, 5, 2, 1), Conv(1, 5, 2, 2, output_padding=1), Conv(0, 5, 1, 1)),
    ),
    "conv_oasis": ConvNetwork(
        size=(208, 176),
        paper_width=64,
        batch_norm=False,
        tanh_log_var=True,
        encoder=(Conv(1, 5, 2, 1), Conv(2, 5, 2, 1), Conv(4, 5, 2, 1), Conv(8, 5, 2, (1, 2)), Conv(16, 5, 2, 0)),
        decoder=(
            Conv(8, 5, (3, 2), (1, 0)),
            Conv(4, 5, 2, (1, 0)),
            Conv(2, 5, 2, 0),
            Conv(1, 5, 2, 0, output_padding=1),
            Conv(0, 5, 1, 1),
        ),
    ),
}
NETWORKS: tuple[str, ...] = ("mlp", *CONV_NETWORKS, "conv3d")
WIDEST = 1 << 20  # latent dimensions, or units of a layer
PAPER_WIDTHS = {name: spec.paper_width for name, spec in CONV_NETWORKS.items()} | {"mlp": 1000, "conv3d": conv3d.WIDTH}
"""What a `width` of None stands for."""


def check_network(network: str, image_shape: ImageShape, latent_dim: int, width: int | None) -> int:
    """Check the options that all models share and return the width to build with.

    Raises:
        ValueError: for an unknown network, an image size that does not fit it, `latent_dim` or `width` below 1.
    """
    if network not in NETWORKS:
        raise ValueError(f"`network` must be one of {', '.join(NETWORKS)}, got {network!r}")
    for name, value in (("latent_dim", latent_dim), ("width", width)):
        if value is not None and not 1 <= value <= WIDEST:
            rule = "least 1" if value < 1 else f"most {WIDEST}"
            raise ValueError(f"`{name}` must be at {rule}, got {shown(value)}")
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"`image_shape` must be (channels, height, width), got {tuple(image_shape)}")
    if network == "conv3d":
        if min(image_shape) < conv3d.SMALLEST:
            raise ValueError(
                f"network 'conv3d' fits volumes (x, y, z) of at least {conv3d.SMALLEST} voxels along each axis, "
                f"got {tuple(image_shape)}; use mlp"
            )
    elif network != "mlp" and tuple(image_shape[1:]) != (spec := CONV_NETWORKS[network]).size:
        fits = [name for name, other in CONV_NETWORKS.items() if other.size == tuple(image_shape[1:])]
        raise ValueError(
            f"network {network!r} fits images of {spec.size[0]}x{spec.size[1]}, got "
            f"{image_shape[1]}x{image_shape[2]}; use {' or '.join([*fits, 'mlp'])}"
        )
    return width or PAPER_WIDTHS[network]


class Encoder(nn.Module):
    """Images (b, c, h, w) to `heads` vectors (b, d): the posterior mean and, with two heads, its log variance."""

    def __init__(
        self, network: str, image_shape: ImageShape, latent_dim: int, width: int | None, heads: int = 2
    ) -> None:
        super().__init__()
        width = check_network(network, image_shape, latent_dim, width)
        if network == "mlp":
            self.body, features = _mlp_body(image_shape, width)
        elif network == "conv3d":
            self.body, features = conv3d.body(image_shape, width)
        else:
            self.body, features = _conv_body(CONV_NETWORKS[network], image_shape, width)
        self.heads = nn.ModuleList(nn.Linear(features, latent_dim) for _ in range(heads))
        self.tanh_log_var = network in CONV_NETWORKS and CONV_NETWORKS[network].tanh_log_var

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return one (b, d) tensor for each head."""
        features = self.body(x)
        outputs = [at_least_float32(head(features)) for head in self.heads]
        if self.tanh_log_var and len(outputs) > 1:  # an autoencoder has no log variance
            outputs[1] = torch.tanh(outputs[1])
        return tuple(outputs)


class Decoder(nn.Module):
    """Latents (b, d) to images (b, c, h, w) in [0, 1]."""

    def __init__(self, network: str, image_shape: ImageShape, latent_dim: int, width: int | None) -> None:
        super().__init__()
        width = check_network(network, image_shape, latent_dim, width)
        if network == "mlp":
            self.body = _mlp_decoder(image_shape, latent_dim, width)
        elif network == "conv3d":
            self.body = conv3d.decoder(image_shape, latent_dim, width)
        else:
            self.body = _conv_decoder(CONV_NETWORKS[network], image_shape, latent_dim, width)
        self.image_shape = tuple(image_shape)

    def forward(self, z: Tensor) -> Tensor:
        """Return the decoder's mean image for each latent."""
        return torch.sigmoid(self.logits(z))

    def logits(self, z: Tensor) -> Tensor:
        """Return the images before the sigmoid, (b, c, h, w)."""
        return at_least_float32(self.body(z)).reshape(-1, *self.image_shape)


def at_least_float32(x: Tensor) -> Tensor:
    """Return a bf16 tensor of automatic mixed precision as float32: sums and exponentials need the digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _mlp_body(image_shape: ImageShape, width: int) -> tuple[nn.Sequential, int]:
    half = max(1, width // 2)
    layers = [nn.Flatten(), nn.Linear(prod(image_shape), width), nn.ReLU(), nn.Linear(width, half), nn.ReLU()]
    return nn.Sequential(*layers), half


def _mlp_decoder(image_shape: ImageShape, latent_dim: int, width: int) -> nn.Sequential:
    half = max(1, width // 2)
    hidden = [nn.Linear(latent_dim, half), nn.ReLU(), nn.Linear(half, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, prod(image_shape)))


def _conv_body(spec: ConvNetwork, image_shape: ImageShape, width: int) -> tuple[nn.Sequential, int]:
    layers: list[nn.Module] = []
    channels = image_shape[0]
    for conv in spec.encoder:
        filters = conv.filters * width
        layers.append(nn.Conv2d(channels, filters, conv.kernel, conv.stride, conv.padding))
        layers += [nn.BatchNorm2d(filters)] if spec.batch_norm else []
        layers.append(nn.ReLU())
        channels = filters
    height, breadth = spec.size
    for conv in spec.encoder:
        height = _conv_size(height, conv, 0)
        breadth = _conv_size(breadth, conv, 1)
    return nn.Sequential(*layers, nn.Flatten()), channels * height * breadth


def _conv_size(size: int, conv: Conv, axis: int) -> int:
    stride, padding = (v if isinstance(v, int) else v[axis] for v in (conv.stride, conv.padding))
    return (size + 2 * padding - conv.kernel) // stride + 1


def _conv_decoder(spec: ConvNetwork, image_shape: ImageShape, latent_dim: int, width: int) -> nn.Sequential:
    channels = spec.encoder[-1].filters * width
    layers: list[nn.Module] = [nn.Linear(latent_dim, channels * 64), nn.Unflatten(1, (channels, 8, 8))]
    for conv in spec.decoder:
        last = conv.filters == 0
        filters = image_shape[0] if last else conv.filters * width
        layers.append(
            nn.ConvTranspose2d(channels, filters, conv.kernel, conv.stride, conv.padding, conv.output_padding)
        )
        if not last:  # the decoder ends in a sigmoid, in `forward`
            layers += [nn.BatchNorm2d(filters)] if spec.batch_norm else []
            layers.append(nn.ReLU())
        channels = filters
    return nn.Sequential(*layers)
