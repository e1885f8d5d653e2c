"""Latent maps project on the main directions and have a panel for each set of samples."""

import pytest
import torch

from geovae.figures.latent import latent_map, principal_directions


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
    shown = [float(tick) for axes in figure.axes if axes.get_ylabel() == "label" for tick in axes.get_yticks()]
    assert {0.0, 1.0, 2.0} <= set(shown)
    assert all(tick == round(tick) for tick in shown)  # there is no label 0.5
    pyplot.close(figure)
