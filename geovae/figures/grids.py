"""Image grids as uint8 arrays, ready for a tracker or a PNG file."""

import math

import numpy as np
import torch
from torch import Tensor

from geovae.images import check_images, to_uint8


def image_grid(images: Tensor, *, columns: int | None = None, padding: int = 1, scale: int = 1) -> np.ndarray:
    """Return `images` (n, c, h, w), c of 1 or 3, as one uint8 picture (rows, columns) or (rows, columns, 3).

    Args:
        images: uint8, or float in [0, 1].
        columns: images a row; by default about as many as rows.
        padding: white pixels around each image.
        scale: whole factor by which pixels are repeated, so that small images can be seen.
    """
    check_images(images)
    if images.shape[1] not in (1, 3):
        raise ValueError(f"a grid needs images of 1 or 3 channels, got {images.shape[1]}")
    pixels = to_uint8(images.detach().cpu()).permute(0, 2, 3, 1).numpy()
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    n, h, w, c = pixels.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    grid = np.full((rows * (h + padding) + padding, columns * (w + padding) + padding, c), 255, np.uint8)
    for i, image in enumerate(pixels):
        y, x = (padding + (i // columns) * (h + padding), padding + (i % columns) * (w + padding))
        grid[y : y + h, x : x + w] = image
    return grid[..., 0] if c == 1 else grid


def comparison_grid(*rows: Tensor, padding: int = 1, scale: int = 1) -> np.ndarray:
    """Return equally many images from each of `rows` (n, c, h, w), one row of the picture below the other."""
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"the rows must hold equally many images, got {[len(row) for row in rows]}")
    images = torch.cat([to_uint8(row.detach().cpu()) for row in rows])
    return image_grid(images, columns=len(rows[0]), padding=padding, scale=scale)
