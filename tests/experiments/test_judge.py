"""Judging a trained model again: the same answers without training, and other samplers on the same codes."""

import warnings

import pytest
import torch

from experiments.config import resolve
from experiments.judge import rejudge
from experiments.run import plan_run, run
from geovae import checkpoint
from geovae.samplers import SAMPLERS, Sampler
from geovae.samplers.volume import SlowerWarning
from geovae.saved_model import load_model
from geovae.tracking import NullTracker
from tests.stand_in_gpu import StandInGpu

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of small sample sizes
QUICK = {
    "data.augment": 0,
    "data.train_size": 300,
    "training.epochs": 1,
    "n_samples": 60,
    "extractor": "pixels",
    "model.width": 16,
    "model.latent_dim": 2,
    "scores": ["frechet"],
}


@pytest.fixture(scope="module")
def config():
    return resolve({**QUICK, "samplers": ["prior", "mixture"]})


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    return run(plan_run(config), output=tmp_path_factory.mktemp("run"))


def test_judging_again_gives_the_same_scores_and_a_model_file_of_its_own(config, trained, tmp_path):
    again = rejudge(trained.model_file, config, output=tmp_path)
    assert again.val_scores == trained.val_scores
    assert again.test_scores == trained.test_scores
    first, second = (checkpoint.load(result.model_file) for result in (trained, again))
    assert first[1] == second[1]
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])


def test_other_sampler_options_are_used_and_kept(trained, tmp_path):
    other = resolve({**QUICK, "samplers": ["mixture"], "sampler.mixture.n_components": 2})
    again = rejudge(trained.model_file, other, output=tmp_path)
    assert list(again.val_scores) == ["mixture"]
    assert load_model(again.model_file).meta["sampler"]["mixture"]["n_components"] == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"samplers": ["nuts"]}, "`samplers` must be one of prior, .*, got 'nuts'"),
        ({"sampler": {"nuts": {"steps": 1}}}, "unknown option 'sampler.nuts.steps'"),
        ({"n_samples": 1}, "`n_samples` must be a whole number of at least 2, got 1"),
        ({"sampler": {"mixture": {"n_components": 0}}}, "`n_components` must be a whole number of at least 1, got 0"),
        ({"samplers": ["vamp"]}, "sampler 'vamp' needs the model's own prior, which model 'vae' does not have"),
    ],
)
def test_bad_options_get_one_sentence_and_write_nothing(trained, tmp_path, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        rejudge(trained.model_file, resolve(QUICK | options), output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_other_data_than_the_models_are_refused(trained):
    saved = load_model(trained.model_file)
    saved.meta["data"]["seed"] = 7
    with pytest.raises(ValueError, match="the data set 'digits' found here is not the one"):
        saved.splits()


class Tags(NullTracker):
    def __init__(self):
        self.seen = {}

    def tags(self, values):
        self.seen |= values


def test_every_warning_of_samplers_and_scores_becomes_a_tag(config, trained, tmp_path, monkeypatch):
    class Doubtful(SAMPLERS["prior"]):
        def fit(self, codes):
            warnings.warn("first")
            warnings.warn("second")
            warnings.warn("no doubt", SlowerWarning)  # such draws are as good as others
            return super().fit(codes)

    monkeypatch.setitem(SAMPLERS, "prior", Doubtful)
    tracker = Tags()
    rejudge(trained.model_file, config, output=tmp_path, tracker=tracker)
    assert tracker.seen["warning.prior"] == "first; second"
    assert "n = 60 is below the 1024 features" in tracker.seen["warning.scores"]
    assert "warning.mixture" not in tracker.seen


def test_a_run_on_a_gpu_fits_its_samplers_there_and_decodes_and_scores_the_same_images(trained, tmp_path, monkeypatch):
    # few and simple steps: the stand-in is slow
    few = {"centroids": "first", "n_centroids": 20, "n_transitions": 2}
    config = resolve({**QUICK, "samplers": ["mixture", "local", "riemannian"], "sampler": {"riemannian": few}})
    expected = rejudge(trained.model_file, config, output=tmp_path / "cpu")
    monkeypatch.setattr("experiments.judge.choose_device", lambda name: torch.device("meta"))
    fitted = []
    fit = Sampler.fit
    monkeypatch.setattr(Sampler, "fit", lambda self, codes: fitted.append(codes.mu.device.type) or fit(self, codes))
    with StandInGpu():
        found = rejudge(trained.model_file, config, output=tmp_path / "gpu")
    assert fitted == ["meta"] * 3
    for name in config["samplers"]:
        assert found.val_scores[name] == pytest.approx(expected.val_scores[name], rel=1e-9)
        assert found.test_scores[name] == pytest.approx(expected.test_scores[name], rel=1e-9)
