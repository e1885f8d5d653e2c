"""What a run records is what it did: resolved options fed back give the same run, and name the same values."""

import pytest
import torch
import yaml

from experiments.config import flatten, resolve, to_yaml
from experiments.describe import describe_run
from experiments.run import plan_run, run
from geovae.codes import Codes
from geovae.models.networks import PAPER_WIDTHS
from geovae.samplers.riemannian import PRESETS
from geovae.saved_model import load_model
from geovae.tracking import NullTracker

QUICK = {
    "model.width": 8,
    "model.latent_dim": 2,
    "training.epochs": 1,
    "n_samples": 30,
    "extractor": "pixels",
    "scores": ["frechet"],
}
RIEMANNIAN = "sampler.riemannian."
GIVEN = [
    *({RIEMANNIAN + "preset": preset} for preset in PRESETS),
    *({RIEMANNIAN + "preset": preset, RIEMANNIAN + "n_transitions": 5} for preset in PRESETS),
    {RIEMANNIAN + "preset": "published", RIEMANNIAN + "mass": "posterior"},
    {RIEMANNIAN + "preset": "published", RIEMANNIAN + "centroids": "all"},
    {RIEMANNIAN + "centroids": "all", RIEMANNIAN + "n_centroids": 7},
    {RIEMANNIAN + "centroids": "random", RIEMANNIAN + "n_centroids": 7},
    {RIEMANNIAN + "centroids": "random"},
    {"model.network": "mlp", "model.width": None},
    {"extractor": "auto"},
    {"scores": None},
    {"model.name": "ae"},
    {"device": "auto"},
]


@pytest.fixture
def codes(generator):
    return Codes(torch.randn(150, 2, generator=generator), torch.full((150, 2), -3.0))


@pytest.fixture(scope="module")
def drawn():
    """The samplers with their options that were compared already: most configurations change one sampler alone."""
    return set()


def draw(sampler, codes):
    return sampler.fit(codes).sample(20, torch.Generator().manual_seed(3))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "given", GIVEN, ids=lambda given: " ".join(f"{k.split('.')[-1]}={v}" for k, v in given.items())
)
def test_a_recorded_configuration_gives_the_same_samplers_and_samples(given, codes, drawn, tmp_path):
    plan = plan_run(resolve(QUICK | given))
    describe_run("run", plan.config, NullTracker(), tmp_path)
    again = plan_run(resolve({"config": tmp_path / "config.yaml"}))
    assert again.config == plan.config
    for name, sampler in plan.judge.samplers.items():
        used = {key: value for key, value in sampler.options.items() if key != "seed"}
        assert plan.config["sampler"].get(name, {}) == used
        if (name, str(used)) not in drawn:
            drawn.add((name, str(used)))
            assert torch.equal(draw(sampler, codes), draw(again.judge.samplers[name], codes))


def test_a_given_value_wins_over_a_preset_even_if_it_is_the_default():
    config = resolve({RIEMANNIAN + "preset": "published", RIEMANNIAN + "n_transitions": 5})
    assert config["sampler"]["riemannian"]["n_transitions"] == 5
    assert config["sampler"]["riemannian"]["centroids"] == "published"
    assert config["sampler"]["riemannian"]["temperature_scale"] == 1.0


def test_no_option_is_left_open_that_decides_the_result():
    config = plan_run(resolve({"model.width": None})).config
    assert config["model"]["width"] == PAPER_WIDTHS[config["model"]["network"]]
    assert config["extractor"].startswith("net-"), "a classifier of the digits' training split"
    assert config["samplers"] == ["prior", "mixture", "fine_mixture", "local", "riemannian"]
    open_options = {name for name, value in flatten(config).items() if value is None}
    # None is a value of these: no preset, all codes, a tuned step, no limit; these change no result by intent:
    # `stream`, `channels_last`, `keep_checkpoint`
    assert open_options <= {
        "data.train_size",
        "keep_checkpoint",
        "training.channels_last",
        "training.early_stop",
        "training.clip_grad_norm",
        "training.stream",
        "sampler.local.scale",
        "sampler.riemannian.preset",
        "sampler.riemannian.n_centroids",
        "sampler.riemannian.step_size",
        "sampler.rhvae.step_size",
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_model_file_of_a_preset_holds_what_was_used(tmp_path):
    given = {RIEMANNIAN + "preset": "published", RIEMANNIAN + "n_transitions": 5, "samplers": ["riemannian"]}
    given |= {"data.augment": 0, "data.train_size": 300}
    result = run(plan_run(resolve(QUICK | given)), output=tmp_path)
    recorded = load_model(result.model_file).meta["sampler"]["riemannian"]
    assert recorded["n_transitions"] == 5
    assert recorded["n_centroids"] == PRESETS["published"].n_centroids
    assert yaml.safe_load(to_yaml(recorded)) == recorded
