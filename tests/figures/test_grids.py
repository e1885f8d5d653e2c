"""Image grids hold the right pixels in the right places; latent maps project on the main directions."""

import numpy as np
import pytest
import torch

from geovae.figures.grids import comparison_grid, image_grid
from geovae.figures.latent import latent_map, principal_directions


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


def test_the_map_shows_the_directions_of_largest_variance(generator):
    mu = torch.randn(500, 4, generator=generator) * torch.tensor([0.1, 5.0, 0.1, 2.0]) + 3
    mean, directions = principal_directions(mu)
    torch.testing.assert_close(mean, mu.mean(0))
    assert directions[:, 0].abs().argmax() == 1
    assert directions[:, 1].abs().argmax() == 3


@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_map_has_a_panel_for_the_codes_and_each_sampler(d, generator):
    from matplotlib import pyplot

    mu = torch.randn(30, d, generator=generator)
    labels = torch.arange(30) % 3
    figure = latent_map(mu, labels=labels, samples={"prior": mu * 0.5, "mixture": mu + 100})
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["codes (n = 30)", "prior (n = 30)", "mixture (n = 30, 30 outside)"]
    pyplot.close(figure)
