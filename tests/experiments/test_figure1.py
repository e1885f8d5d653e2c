"""Fig. 1 on codes of a small model."""

import pytest
import torch
from matplotlib import pyplot

from experiments.studies.reports.figure1 import figure1
from geovae.codes import Codes
from geovae.models import build_model
from geovae.samplers import RiemannianSampler
from geovae.saved_model import SavedModel

SHAPE = (1, 8, 8)


@pytest.fixture
def model():
    return build_model("vae", SHAPE, network="mlp", width=8, latent_dim=2, seed=0).eval()


def codes_of(generator, narrowest):
    log_var = torch.full((40, 2), -2.0)
    log_var[0] = narrowest
    return Codes(torch.randn(40, 2, generator=generator), log_var)


@pytest.mark.parametrize(("narrowest", "dtype"), [(-2.0, torch.float32), (-30.0, torch.float64)])
def test_the_figure_is_drawn_in_the_precision_that_the_metric_needs(model, generator, narrowest, dtype):
    codes = codes_of(generator, narrowest)
    metric = RiemannianSampler().fit(codes).metric
    assert metric.dtype == dtype
    figure = figure1(model, codes.mu, None, metric)
    assert len(figure.axes) >= 3
    pyplot.close(figure)


def test_latents_of_any_precision_are_decoded_alike(model, generator):
    z = torch.randn(5, 2, generator=generator)
    saved = SavedModel(model, Codes(z), {})
    assert torch.equal(saved.decode(z), saved.decode(z.double()))
