"""The figure of the geometry shows what it is given, and writes nothing."""

import pytest
import torch
from matplotlib import pyplot

from geovae.figures.geometry import geometry_figure, pullback_figure


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    pyplot.close("all")


def test_the_figure_has_maps_curves_and_strips():
    side = torch.linspace(-1, 1, 9)
    field = (side, side, side[:, None] * side[None, :])
    curves = {"affine": torch.rand(2, 5, 2), "geodesic": torch.rand(2, 5, 2)}
    strips = {name: torch.rand(2, 5, 1, 8, 8) for name in curves}
    about = {"curves": curves, "strips": strips, "distance": field, "source": torch.zeros(2)}
    figure = geometry_figure(field, torch.rand(20, 2), None, **about)
    maps, rows = figure.subfigs[0].axes, figure.subfigs[1].axes
    assert len(rows) == 4
    assert rows[0].images[0].get_array().shape == (8, 40)
    assert [t.get_text() for t in maps[0].get_legend().get_texts()] == ["affine", "geodesic"]
    figure.canvas.draw()


def test_strips_in_colour_and_codes_by_label():
    side = torch.linspace(-1, 1, 5)
    field = (side, side, torch.zeros(5, 5))
    about = {"curves": {"affine": torch.rand(1, 3, 2)}, "distance": field, "source": torch.zeros(2)}
    strips = {"affine": torch.rand(1, 3, 3, 4, 4)}
    figure = geometry_figure(field, torch.rand(4, 2), torch.arange(4), strips=strips, **about)
    figure.canvas.draw()
    assert figure.subfigs[1].axes[0].images[0].get_array().shape == (4, 12, 3)
    assert figure.subfigs[0].axes[0].collections[1].get_array().tolist() == [0, 1, 2, 3]


def test_the_pullback_figure_has_a_line_of_agreement():
    figure = pullback_figure(torch.rand(10, 3) + 0.1, torch.rand(10, 3) + 0.1)
    assert len(figure.axes[0].lines) == 4
