"""Image grids hold the right pixels in the right places."""

import numpy as np
import pytest
import torch

from geovae.images import comparison_grid, image_grid


def test_a_grid_holds_every_image_in_its_place():
    images = torch.arange(1, 6, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 2, 3)
    grid = image_grid(images, columns=3, padding=1)
    assert grid.shape == (2 * 3 + 1, 3 * 4 + 1)
    for i in range(5):
        y, x = 1 + (i // 3) * 3, 1 + (i % 3) * 4
        assert (grid[y : y + 2, x : x + 3] == i + 1).all()
    assert (grid[0] == 255).all()


def test_colour_floats_and_scale():
    image = torch.zeros(1, 3, 1, 1)
    image[0, 0] = 1.0
    grid = image_grid(image, padding=0, scale=4)
    assert grid.shape == (4, 4, 3)
    assert np.array_equal(np.unique(grid.reshape(-1, 3), axis=0), [[255, 0, 0]])


def test_comparison_rows_stand_below_each_other():
    grid = comparison_grid(torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2), padding=0)
    assert (grid[:2] == 0).all()
    assert (grid[2:] == 255).all()


def test_bad_images_are_refused():
    with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
        image_grid(torch.zeros(1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"equally many images, got \[1, 2\]"):
        comparison_grid(torch.zeros(1, 1, 2, 2), torch.zeros(2, 1, 2, 2))
