"""Convolutions over volumes: an image (c, h, w) is read as a volume (x, y, z), of any size from 8 voxels on.

Four strided convolutions down and four transposed ones back to the exact size, the last straight to the volume: on a
CPU, filters at full resolution would cost more than all the rest. Batch norm as in the paper's networks of four layers:
without it the decoder starts as a constant and stays one. Leaky ReLU, since tissue is a plateau of grey: where all the
filters of a ReLU are off, the volume is flat and stays flat.
"""

from math import prod

from torch import nn

WIDTH = 16  # by default; the paper has no volumes
STAGES = (1, 2, 4, 8)  # filters, in multiples of the width
SLOPE = 0.2
SMALLEST = 8  # voxels along each axis

Shape3 = tuple[int, int, int]


def sizes(shape: Shape3) -> list[Shape3]:
    """Return the grids from that of the volume to the coarsest: each halves the one before, rounded up."""
    found = [shape]
    for _ in STAGES:
        x, y, z = found[-1]
        found.append(((x + 1) // 2, (y + 1) // 2, (z + 1) // 2))
    return found


def body(shape: Shape3, width: int) -> tuple[nn.Sequential, int]:
    """Return layers from volumes (b, x, y, z) to features (b, n), and n."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, shape[0]))]
    channels = 1
    for stage in STAGES:
        layers.append(nn.Conv3d(channels, stage * width, 3, stride=2, padding=1))
        channels = stage * width
        layers += [nn.BatchNorm3d(channels), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Flatten()), channels * prod(sizes(shape)[-1])


def decoder(shape: Shape3, latent_dim: int, width: int) -> nn.Sequential:
    """Return layers from latents (b, d) to logits (b, 1, x, y, z)."""
    *finer, coarsest = sizes(shape)
    channels = STAGES[-1] * width
    layers: list[nn.Module] = [nn.Linear(latent_dim, channels * prod(coarsest)), nn.Unflatten(1, (channels, *coarsest))]
    for stage, grid in zip(STAGES[-2::-1], reversed(finer[1:]), strict=True):
        layers.append(_doubling(channels, stage * width, grid))
        channels = stage * width
        layers += [nn.BatchNorm3d(channels), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, _doubling(channels, 1, shape))


def _doubling(channels: int, filters: int, grid: Shape3) -> nn.ConvTranspose3d:
    """Return a transposed convolution from half of `grid`, rounded up, to `grid`."""
    x, y, z = (n % 2 for n in grid)  # an odd side loses one voxel at each end, and gets one back
    return nn.ConvTranspose3d(channels, filters, 4, stride=2, padding=(1 + x, 1 + y, 1 + z), output_padding=(x, y, z))
