"""Every option of a sampler, a model and the trainer changes something: what is drawn, learnt or recorded.

The changed value follows from the option's type. Where it cannot (no default, or a range that the next value leaves),
it stands in the table of the room. An option that is neither derived nor listed fails.
"""

import functools
import inspect
import typing
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from geovae.batches import Batches
from geovae.codes import Codes
from geovae.graphs import Recorder
from geovae.models import MODELS, build_model
from geovae.samplers import SAMPLERS
from geovae.saved_model import load_model
from geovae.training import Trainer

SHAPE = (1, 32, 32)


def options_of(member):
    """Return {name: parameter} of the constructor, and of the base classes to which it passes `**options`."""
    found = {}
    for base in member.__mro__:
        parameters = inspect.signature(base).parameters
        found = {name: p for name, p in parameters.items() if p.kind != p.VAR_KEYWORD} | found
        if all(p.kind != p.VAR_KEYWORD for p in parameters.values()):
            break
    found.pop("image_shape", None)
    return found


def changed(member, name, table):
    """Return another value for the option `name`."""
    if name in table:
        return table[name]
    option = options_of(member)[name]
    if typing.get_origin(option.annotation) is typing.Literal:
        return next(value for value in typing.get_args(option.annotation) if value != option.default)
    if type(option.default) not in (bool, int, float):
        pytest.fail(f"the option `{name}` of {member.__name__} needs a changed value in the table of this test")
    changes = {
        bool: lambda: not option.default,
        int: lambda: option.default + 1,
        float: lambda: 2 * option.default or 0.5,
    }
    return changes[type(option.default)]()


def differ(a, b):
    return len(a) != len(b) or not all(map(torch.equal, a, b))


# -- samplers, on the codes of a trained model, with extras as `vamp` and `rhvae` need them

SAMPLER_BASE = {"riemannian": {"preset": None, "n_centroids": 20}, "rhvae": {"target_acceptance": 0.99}}
SAMPLER_CHANGED = {
    "mixture": {"n_components": 3, "n_init": 12},
    "fine_mixture": {"novelty": 1.3},
    "local": {"scale": 1.5},
    "rhvae": {"step_size": 0.05, "target_acceptance": 0.95},
    "riemannian": {
        "preset": "published",
        "covariance": "neighbours",
        "centroids": "random",
        "n_centroids": 30,
        "temperature": "likelihood",
        "coverage": 0.9,
        "temperature_scale": 1.0,
        "floor": 0.1,
        "decay": 0.1,
        "sharpness": 2.0,
        "start": "centroids",
        "n_transitions": 6,
        "n_leapfrog": 11,
        "step_size": 0.05,
        "target_acceptance": 0.6,
        "mass": "unit",
        "n_jumps": 1,
        "seed": 1,
    },
}


@pytest.fixture(scope="module")
def codes(trained_vae):
    codes = load_model(trained_vae).codes
    mu, log_var = codes
    extras = {"prior.mu": mu[:9], "prior.log_var": log_var[:9], "metric.centroids": mu[:30]}
    extras |= {"metric.values": torch.eye(mu.shape[1]).repeat(30, 1, 1), "metric.temperature": torch.tensor(2.0)}
    return Codes(mu, log_var, extras | {"metric.floor": torch.tensor(1e-3)}, labels=codes.labels)


@pytest.fixture(scope="module")
def drawn(codes):
    """What a sampler draws with the options of `SAMPLER_BASE`, computed once."""
    return functools.cache(lambda name: draw(SAMPLERS[name](**SAMPLER_BASE.get(name, {})), codes))


def draw(sampler, codes):
    """Return the latents and the numbers of 40 draws."""
    z, info = sampler.fit(codes).sample(40, torch.Generator().manual_seed(0), return_info=True)
    return [z, torch.tensor([v for _, v in sorted(info.scalars().items())])]


@pytest.mark.filterwarnings("ignore::UserWarning")  # some of the changed values make poor samplers
@pytest.mark.parametrize(("name", "option"), [(name, o) for name, s in SAMPLERS.items() for o in options_of(s)])
def test_every_option_of_a_sampler_changes_its_draws(name, option, codes, drawn):
    member, base = SAMPLERS[name], SAMPLER_BASE.get(name, {})
    value = changed(member, option, SAMPLER_CHANGED.get(name, {}))
    assert differ(drawn(name), draw(member(**{**base, option: value}), codes))


# -- models, trained for two epochs

MODEL_BASE = {"network": "mlp", "width": 16, "latent_dim": 3}
MODEL_CHANGED = {"network": "conv32", "width": 17, "n_centroids": 9, "n_pseudo_inputs": 9, "warm_up": 5}


@pytest.fixture(scope="module")
def images():
    return torch.rand(24, *SHAPE, generator=torch.Generator().manual_seed(0))


def learn(name, images, **options):
    """Return the parameters, the recorded losses and the tensors for a sampler."""
    model = build_model(name, SHAPE, **{**MODEL_BASE, **options})
    trainer = Trainer(epochs=2, batch_size=8)
    records = list(trainer.run(trainer.start(model), images, images))
    losses = torch.tensor([list(part.values()) for record in records for part in (record.train, record.val)])
    return [losses, *model.state_dict().values()]


@pytest.fixture(scope="module")
def learnt(images):
    """The result of each model's defaults, computed once."""
    return {}


@pytest.mark.parametrize(("name", "option"), [(name, o) for name, m in MODELS.items() for o in options_of(m)])
def test_every_option_of_a_model_changes_what_it_learns(name, option, images, learnt):
    if name not in learnt:
        learnt[name] = learn(name, images)
    value = changed(MODELS[name], option, MODEL_CHANGED)
    assert differ(learnt[name], learn(name, images, **{option: value}))


# -- the trainer

TRAINER_BASE = {"epochs": 9, "batch_size": 8}
TRAINER_CHANGED = {"batch_size": 9, "plateau_factor": 0.3, "plateau_patience": 1, "early_stop": 2, "min_delta": 0.9}
TRAINER_CHANGED |= {"clip_grad_norm": 1e-3, "stream": True, "precision": "bf16", "channels_last": True}


class Worsening(nn.Module):
    """A convolution whose validation loss rises from epoch to epoch, and which notes torch's deterministic mode."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(2, 2, 3)
        self.deterministic = []

    def loss(self, x, generator):
        self.deterministic.append(torch.are_deterministic_algorithms_enabled())
        value = self.body(x.expand(-1, 2, -1, -1)).float().square().mean()
        return {"loss": value if self.training else -value}


@pytest.mark.parametrize("option", options_of(Trainer))
def test_every_option_of_the_trainer_changes_the_run(option, images, monkeypatch):
    """Some change how a step is computed: memory layout, compiler, graphs, mode, where images are."""
    value = changed(Trainer, option, TRAINER_CHANGED)
    assert train({}, images, monkeypatch) != train({option: value}, images, monkeypatch)


def train(options, images, monkeypatch):
    seen = SimpleNamespace(compiled=0, stream=[], recorded=[])

    def compile_loss(function):
        seen.compiled += 1
        return function

    class NotedBatches(Batches):
        def __init__(self, images, device, batch_size, stream=None):
            seen.stream.append(stream)
            super().__init__(images, device, batch_size, stream)

    def note_recorder(function, *, generators, enabled):
        seen.recorded.append(enabled)
        return Recorder(function, generators=generators, enabled=False)

    monkeypatch.setattr(torch, "compile", compile_loss)
    monkeypatch.setattr("geovae.training.Recorder", note_recorder)
    monkeypatch.setattr(Trainer, "_records", lambda self, device: self.graphs)  # as on a GPU
    monkeypatch.setattr("geovae.training.Batches", NotedBatches)
    torch.manual_seed(0)
    model, trainer = Worsening(), Trainer(**{**TRAINER_BASE, **options})
    records = list(trainer.run(trainer.start(model), images, images))
    numbers = [(sorted(r.train.items()), sorted(r.val.items()), r.learning_rate) for r in records]
    return numbers, model.body.weight.stride(), seen.compiled, seen.stream, seen.recorded, model.deterministic
