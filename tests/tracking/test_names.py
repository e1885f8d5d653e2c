"""The names of what is recorded: every name has one row, and the page says what the module says."""

import re

import pytest
import torch

from geovae.codes import Codes
from geovae.evaluation import Scorer
from geovae.evaluation.scores import SCORES
from geovae.samplers import SAMPLERS
from tools.names import NAMES, PAGE, TABLES, as_markdown, find, unknown


def test_the_page_is_what_the_module_says():
    assert PAGE.read_text() == as_markdown(), "run `make names`"


@pytest.mark.parametrize(
    ("kind", "name", "key"),
    [
        ("metric", "train/loss", "train/<loss>"),
        ("metric", "score/fid", "score/<score>"),
        ("metric", "score/fd_random-conv-v1_sd", "score/<score>"),
        ("metric", "score/riemannian/real_kid_pixels_stderr", "score/<sampler>/<score>"),
        ("metric", "score/prior/prd_f8_class3", "score/<sampler>/<score>"),
        ("metric", "best/val_loss", "best/val_loss"),
        ("metric", "best/fd_pixels", "best/<score>"),
        ("metric", "sampler/riemannian/ess_bulk", "sampler/<sampler>/<diagnostic>"),
        ("parameter", "cfg.model.latent_dim", "cfg.<option>"),
        ("tag", "not_finite.score/prior/fid", "not_finite.<metric>"),
        ("image", "samples/prior", "samples/<sampler>"),
    ],
)
def test_a_name_falls_under_its_row(kind, name, key):
    assert find(kind, name) == key


def test_a_name_without_a_row_is_named():
    assert unknown("metric", ["train/loss", "train/lost", "score/a/b/fid", "fid"]) == [
        "fid",
        "score/a/b/fid",
        "train/lost",
    ]
    assert unknown("parameter", ["model", "cfg.seed"]) == ["model"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_diagnostic_of_every_sampler_has_a_row(sampler, generator):
    mu = torch.randn(120, 2, generator=generator)
    extras = {key: torch.randn(3, 2, generator=generator) for key in SAMPLERS[sampler].needs}
    if sampler == "rhvae":
        pytest.skip("its codes come from a trained model; tests of whole runs cover it")
    codes = Codes(mu, torch.full_like(mu, -1.0), extras)
    _, info = SAMPLERS[sampler]().fit(codes).sample(40, generator, return_info=True)
    assert not unknown("metric", [f"sampler/{sampler}/{key}" for key in info.scalars()])


@pytest.mark.parametrize("extractor", ["pixels", "random-conv-v1"])
def test_every_number_of_every_score_has_a_row(extractor, generator):
    real, fake = (torch.randn(64, 4, generator=generator) for _ in range(2))
    found = Scorer(extractor, scores=list(SCORES)).score(real=real, fake=fake)
    assert len(found) > len(SCORES)
    assert not unknown("metric", [f"score/{key}" for key in found])


def test_keys_are_such_as_mlflow_takes():
    for rows in [*NAMES.values(), *TABLES.values()]:
        for key, meaning in rows.items():
            assert re.fullmatch(r"[\w./<>-]+", key)
            assert meaning
