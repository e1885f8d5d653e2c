"""Small affine distortions: the parameters are drawn first, then a deterministic transform applies them.

An output pixel at p (from the centre, in pixels) takes the value of the image at M^-1 (p - t), with
M = scale * rotation(angle) * [[1, shear], [0, 1]] and t the shift; bilinear, zero outside.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from geovae.images import to_float, to_uint8


class AffineParameters(NamedTuple):
    """One distortion for each of `n` images."""

    angle: Tensor  # (n,), radians
    shift: Tensor  # (n, 2), pixels to the right and down
    scale: Tensor  # (n,), a factor
    shear: Tensor  # (n,), a slope


def draw_affine(
    n: int,
    generator: torch.Generator,
    *,
    degrees: float = 12.0,
    pixels: float = 2.0,
    scale: float = 0.1,
    shear: float = 0.15,
) -> AffineParameters:
    """Draw `n` distortions, each parameter uniform within plus or minus the bound given."""
    angle, right, down, growth, slope = torch.rand(5, n, generator=generator).mul(2).sub(1)
    bound = degrees * torch.pi / 180
    return AffineParameters(angle * bound, torch.stack([right, down], 1) * pixels, 1 + growth * scale, slope * shear)


def apply_affine(images: Tensor, parameters: AffineParameters, *, batch_size: int = 4096) -> Tensor:
    """Return `images`, uint8 (n, c, h, w), each distorted by its own parameters."""
    n, _, h, w = images.shape
    if parameters.angle.shape != (n,):
        raise ValueError(f"{n} images need {n} distortions, got {len(parameters.angle)}")
    theta, batches = _sampling_matrices(parameters, h, w), []
    for start in range(0, n, batch_size):
        x, matrices = images[start : start + batch_size], theta[start : start + batch_size]
        grid = affine_grid(matrices, list(x.shape), align_corners=False)
        batches.append(to_uint8(grid_sample(to_float(x), grid, align_corners=False)))
    return torch.cat(batches)


def _sampling_matrices(parameters: AffineParameters, h: int, w: int) -> Tensor:
    """Return the matrices (n, 2, 3) from output to input coordinates, in the units of `affine_grid` (-1 to 1)."""
    angle, shift, scale, shear = parameters
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.stack([cos, -sin, sin, cos], 1).reshape(-1, 2, 2)
    slant = torch.eye(2).repeat(len(angle), 1, 1)
    slant[:, 0, 1] = shear
    inverse = torch.linalg.inv(scale[:, None, None] * rotation @ slant)
    offset = -(inverse @ shift[:, :, None])
    half = torch.tensor([w / 2, h / 2])  # pixels in one unit of the grid
    return torch.cat([inverse * half / half[:, None], offset / half[:, None]], 2)
