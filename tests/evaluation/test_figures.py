"""The figures of an evaluation: what is drawn is what was given."""

import numpy as np
import pytest
import torch

from geovae.figures.evaluation import neighbour_figure, prd_figure


def test_prd_curve_is_recall_against_precision():
    precision, recall = [0.0, 0.5, 1.0], [1.0, 0.8, 0.0]
    figure = prd_figure({"vae": (precision, recall)})
    (line,) = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), recall)
    np.testing.assert_array_equal(line.get_ydata(), precision)
    assert line.get_label() == "vae"
    assert figure.axes[0].get_xlabel() == "recall"


@pytest.mark.parametrize("channels", [1, 3])
def test_neighbours_stand_in_columns(channels, generator):
    rows = {
        name: torch.randint(0, 256, (4, channels, 6, 5), generator=generator, dtype=torch.uint8)
        for name in ("sample", "nearest training image", "nearest reconstruction")
    }
    figure = neighbour_figure(rows)
    assert len(figure.axes) == 12
    shown = np.asarray(figure.axes[5].images[0].get_array())  # second row, second column
    expected = rows["nearest training image"][1].permute(1, 2, 0).squeeze(-1) / 255
    np.testing.assert_allclose(shown, expected, rtol=1e-6)
    assert [figure.axes[i].get_ylabel().split("\n")[-1] for i in (0, 4, 8)] == ["sample", "image", "reconstruction"]
    figure.canvas.draw()  # it renders


def test_bad_input():
    with pytest.raises(ValueError, match="`curves` is empty"):
        prd_figure({})
    with pytest.raises(ValueError, match="'a' has 1 precisions and 2 recalls"):
        prd_figure({"a": ([1.0], [1.0, 0.5])})
    with pytest.raises(ValueError, match="image sets of one shape"):
        neighbour_figure({"a": torch.zeros(2, 1, 4, 4), "b": torch.zeros(3, 1, 4, 4)})
    with pytest.raises(ValueError, match="got none"):
        neighbour_figure({})
