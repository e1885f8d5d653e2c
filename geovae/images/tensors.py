"""Image tensors: (n, c, h, w), either uint8 in 0..255 (stored) or floating point in [0, 1] (computed with).

A volume (x, y, z), with the patient's right, front and top at the ends of its axes, is an image of x channels.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad


def check_images(images: Tensor, name: str = "images") -> Tensor:
    """Return `images` if they are a non-empty (n, c, h, w) tensor, uint8 or finite floats in [0, 1].

    Raises:
        ValueError: for another type, shape, an empty set, a value that is not finite or lies outside [0, 1].
    """
    if not isinstance(images, Tensor) or images.ndim != 4:
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"`{name}` must be a tensor of shape (n, c, h, w), got {got}")
    if images.numel() == 0:
        raise ValueError(f"`{name}` is empty: its shape is {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise ValueError(f"`{name}` must be uint8 (0 to 255) or floating point (0 to 1), got {images.dtype}")
    low, high = (float(v) for v in images.aminmax())
    if not (low >= 0.0 and high <= 1.0):  # written so that NaN fails too
        raise ValueError(
            f"`{name}` as floating point must lie in [0, 1], got values from {low:g} to {high:g}; "
            "divide by 255 or pass uint8"
        )
    return images


def to_float(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return `images` as floating point in [0, 1]; uint8 is divided by 255."""
    return images.to(dtype).div_(255) if images.dtype == torch.uint8 else images.to(dtype)


def to_uint8(images: Tensor) -> Tensor:
    """Return `images` as uint8 in 0..255, rounded to the nearest level; values outside [0, 1] are clipped."""
    return images if images.dtype == torch.uint8 else images.clamp(0, 1).mul(255).round_().to(torch.uint8)


def as_pictures(images: Tensor) -> Tensor:
    """Return images (n, c, h, w) that can be shown and scored; those of 1 or 3 channels are unchanged.

    Volumes (n, x, y, z) become their sagittal, coronal and axial middle planes side by side, (n, 1, h, w): top or front
    upwards, the patient's left on the left.
    """
    if images.shape[1] in (1, 3):
        return images
    x, y, z = (size // 2 for size in images.shape[1:])
    planes = [torch.rot90(plane, 1, (1, 2)) for plane in (images[:, x], images[:, :, y], images[:, :, :, z])]
    height = max(plane.shape[1] for plane in planes)
    spare = [height - plane.shape[1] for plane in planes]
    level = [pad(p, (0, 0, s // 2, s - s // 2)) for p, s in zip(planes, spare, strict=True)]
    return torch.cat(level, dim=2).unsqueeze(1)


def image_grid(images: Tensor, *, columns: int | None = None, padding: int = 1, scale: int | None = 1) -> np.ndarray:
    """Return `images` (n, c, h, w), c of 1 or 3, as one uint8 picture (rows, columns) or (rows, columns, 3).

    Args:
        images: uint8, or float in [0, 1].
        columns: images a row; by default about as many as rows.
        padding: white pixels around each image.
        scale: whole factor by which pixels are repeated; None makes images about 64 pixels high, readable on a screen.
    """
    check_images(images)
    if images.shape[1] not in (1, 3):
        raise ValueError(f"a grid needs images of 1 or 3 channels, got {images.shape[1]}")
    pixels = to_uint8(images.detach().cpu()).permute(0, 2, 3, 1).numpy()
    scale = scale or max(1, round(64 / images.shape[2]))
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    n, h, w, c = pixels.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    grid = np.full((rows * (h + padding) + padding, columns * (w + padding) + padding, c), 255, np.uint8)
    for i, image in enumerate(pixels):
        y, x = (padding + (i // columns) * (h + padding), padding + (i % columns) * (w + padding))
        grid[y : y + h, x : x + w] = image
    return grid[..., 0] if c == 1 else grid


def comparison_grid(*rows: Tensor, padding: int = 1, scale: int | None = 1) -> np.ndarray:
    """Return a picture like `image_grid` with one row for each of `rows` (n, c, h, w)."""
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"the rows must hold equally many images, got {[len(row) for row in rows]}")
    images = torch.cat([to_uint8(row.detach().cpu()) for row in rows])
    return image_grid(images, columns=len(rows[0]), padding=padding, scale=scale)
