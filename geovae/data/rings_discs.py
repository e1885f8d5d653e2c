"""Synthetic rings and discs in two parameters, radius and thickness: the toy of Fig. 1, for two-dimensional latents.

A shape is centred; the coverage of a pixel at distance r from the centre is that of the outer disc minus that of the
hole, each min(1, max(0, radius - r + 1/2)). Edges are smooth, so that similar parameters give similar images.
"""

import torch
from torch import Tensor

from geovae.checks import check_count
from geovae.data.dataset import DataSet, Split, Splits, check_common, check_fractions, limit_train, random_splits
from geovae.images import to_uint8

SHAPE = (1, 32, 32)
RADIUS, THICKNESS = (5.0, 14.0), (0.15, 0.5)  # pixels; share of the radius


def load(
    *,
    seed: int = 0,
    train_size: int | None = None,
    n: int = 600,
    val_fraction: float = 0.14,
    test_fraction: float = 0.16,
) -> Splits:
    """Return seeded splits of `n` shapes, one half discs (label 0), the other rings (label 1).

    Args:
        seed: of the shapes, of the splits and of the subset.
        train_size: keep this many training images, and a fifth as many for validation.
        n: shapes in all splits together.
        val_fraction: share of all images for validation.
        test_fraction: share of all images for the test.
    """
    check_common(seed, train_size)
    check_count(low=10, n=n)
    check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
    labels = torch.arange(n) % 2
    generator = torch.Generator().manual_seed(seed)
    # Radii are evenly spaced and shuffled: independent draws could repeat a disc and put it into two splits.
    steps = (torch.randperm(n, generator=generator) + 0.5) / n
    radius = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * steps
    share = THICKNESS[0] + (THICKNESS[1] - THICKNESS[0]) * torch.rand(n, generator=generator)
    data = Split(draw_shapes(radius, torch.where(labels == 1, radius * share, radius)), labels)
    splits = random_splits(
        data, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed, source="geovae.data.rings_discs"
    )
    return limit_train(splits, train_size, seed)


DATASET = DataSet(load, image_shape=SHAPE, extractor="trained")


def draw_shapes(radius: Tensor, thickness: Tensor) -> Tensor:
    """Return rings of outer `radius` (n,) and `thickness` (n,), in pixels, as uint8 (n, 1, 32, 32).

    A thickness equal to the radius, or larger, gives a disc.
    """
    size = SHAPE[1]
    axis = torch.arange(size) - (size - 1) / 2
    distance = torch.hypot(axis[:, None], axis)
    outer = _coverage(radius, distance)
    hole = _coverage(radius - thickness, distance) * (thickness < radius)[:, None, None]
    return to_uint8(outer - hole)[:, None]


def _coverage(radius: Tensor, distance: Tensor) -> Tensor:
    """Return the share (n, h, w) of each pixel that a disc of each radius (n,) covers."""
    return (radius[:, None, None] - distance + 0.5).clamp(0, 1)
