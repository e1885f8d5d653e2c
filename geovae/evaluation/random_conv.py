"""`random-conv-v1`: a fixed, seeded random convolutional network as a feature extractor that needs no download.

Random networks order image sets about as well as trained ones where ImageNet's features do not fit (Naeem et al. 2020,
arXiv 2002.09797; Lee 2022, arXiv 2208.09218). Its numbers are not FIDs. Weights come from the raw bits of PCG64, whose
stream is fixed for good, through exactly rounded arithmetic: the same bytes everywhere. Never change them: add v2.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

# (filters, kernel, stride, pooled grid): each stage gives its mean over every cell of the grid
STAGES = ((32, 5, 1, 1), (64, 3, 2, 1), (96, 3, 2, 2), (128, 3, 2, 1))
GAIN = 5.0  # brings the mean square of the features near 1, where KID's kernel is neither constant nor cubic


class RandomConv(nn.Module):
    """Four convolutions with ReLU; features (b, 608) are means of every stage over a 1x1 or 2x2 grid.

    Takes images (b, c, h, w) in [0, 1] with 1 or 3 channels (each its own first layer) of any height and width.
    """

    name = "random-conv-v1"

    def __init__(self, *, seed: int = 0) -> None:
        """Draw the weights of one member of the family, `seed` = 0, 1, 2, ..."""
        super().__init__()
        if seed < 0:
            raise ValueError(f"`seed` must not be negative, got {seed}")
        self.id = f"{self.name}-seed{seed}"
        for channels in (1, 3):
            self.register_buffer(f"first_{channels}", _filters(seed, channels, STAGES[0][0], channels, STAGES[0][1]))
        for stage in range(1, len(STAGES)):
            weights = _filters(seed, 10 + stage, STAGES[stage][0], STAGES[stage - 1][0], STAGES[stage][1])
            self.register_buffer(f"stage_{stage}", weights)
        for stage, (filters, *_) in enumerate(STAGES):
            self.register_buffer(f"bias_{stage}", torch.from_numpy(0.25 * _uniform(seed, 20 + stage, filters)).float())

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (b, 608) of images (b, c, h, w) in [0, 1]."""
        if x.shape[1] not in (1, 3):
            raise ValueError(f"{self.name} takes images with 1 or 3 channels, got {x.shape[1]}")
        weights, x, parts = self.get_buffer(f"first_{x.shape[1]}"), 2 * x - 1, []
        for stage, (_, kernel, stride, grid) in enumerate(STAGES):
            weights = self.get_buffer(f"stage_{stage}") if stage else weights
            bias = self.get_buffer(f"bias_{stage}")
            x = functional.conv2d(x, weights, bias, stride=stride, padding=kernel // 2).relu_()
            parts.append(functional.adaptive_avg_pool2d(x, grid).flatten(1))
        return torch.cat(parts, dim=1).mul_(GAIN)


def _filters(seed: int, stream: int, filters: int, channels: int, kernel: int) -> Tensor:
    """Zero-mean uniform filters (filters, channels, kernel, kernel) of variance 2 / fan-in (He et al. 2015).

    Without the mean, filters look at contrast and not at brightness, which otherwise outweighs all else.
    """
    fan_in = channels * kernel * kernel
    flat = _uniform(seed, stream, filters * fan_in).reshape(filters, fan_in)
    flat = flat - flat.sum(axis=1, keepdims=True) / fan_in  # this sum is exact in any order: see _uniform
    return torch.from_numpy(flat * math.sqrt(6.0 / fan_in)).float().reshape(filters, channels, kernel, kernel)


def _uniform(seed: int, stream: int, count: int) -> np.ndarray:
    """`count` float64 values in [-1, 1), multiples of 2^-23, from the raw bits of PCG64."""
    raw = np.random.PCG64(np.random.SeedSequence([1, seed, stream])).random_raw(count)
    return (raw >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0
