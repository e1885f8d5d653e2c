"""Judging a trained model again: the same answers without training, and other samplers on the same codes."""

import pytest
import torch

from experiments.config import resolve
from experiments.judge import load_data_of, rejudge
from experiments.run import run
from geovae import checkpoint
from geovae.saved_model import load_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of small sample sizes
QUICK = ["--training.epochs=1", "--n_samples=60", "--extractor=pixels", "--model.width=16", "--model.latent_dim=2"]


@pytest.fixture(scope="module")
def config():
    return resolve([*QUICK, "--samplers=prior,mixture", "--scores=frechet"])


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    return run(**config, output=tmp_path_factory.mktemp("run"))


def test_judging_again_gives_the_same_scores_and_a_model_file_of_its_own(config, trained, tmp_path):
    same = {name: config[name] for name in ("sampler", "samplers", "n_samples", "extractor", "scores", "seed")}
    again = rejudge(trained.model_file, output=tmp_path, **same)
    assert again.val_scores == trained.val_scores
    assert again.test_scores == trained.test_scores
    first, second = (checkpoint.load(result.model_file) for result in (trained, again))
    assert first[1] == second[1]
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])


def test_other_sampler_options_are_used_and_kept(trained, tmp_path):
    options = {"mixture": {"n_components": 2}}
    again = rejudge(trained.model_file, sampler=options, samplers=["mixture"], n_samples=60, output=tmp_path)
    assert list(again.val_scores) == ["mixture"]
    assert load_model(again.model_file).meta["sampler"] == options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sampler": {}, "samplers": ["nuts"]}, "unknown sampler 'nuts'; choose from prior"),
        ({"sampler": {"nuts": {}}}, "unknown sampler 'nuts'; choose from prior"),
        ({"sampler": {}, "n_samples": 1}, "`n_samples` must be at least 2, got 1"),
        ({"sampler": {"mixture": {"n_components": 0}}}, "`n_components` must be at least 1, got 0"),
    ],
)
def test_bad_options_get_one_sentence_and_write_nothing(trained, tmp_path, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        rejudge(trained.model_file, output=tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_other_data_than_the_models_are_refused(trained):
    saved = load_model(trained.model_file)
    saved.meta["data"]["seed"] = 7
    with pytest.raises(ValueError, match="the data set 'digits' found here is not the one"):
        load_data_of(saved)
