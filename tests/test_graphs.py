"""Recorded functions: when they are recorded, and that their results are the plain ones."""

from types import SimpleNamespace

import pytest
import torch
from torch import Generator

from geovae import graphs
from geovae.graphs import Recorder
from geovae.models import build_model
from geovae.training import Trainer


def gpu(shape=(2,)):
    """Stand in for a tensor of a GPU."""
    return SimpleNamespace(device=torch.device("cuda"), shape=shape)


class Stand:
    """Stand in for a graph, which knows when it was made."""

    def __init__(self, function, tensors, generators):
        self.shape = tensors[0].shape

    def fits(self, tensors):
        return tensors[0].shape == self.shape

    def __call__(self, *tensors):
        return "replayed"


def test_the_second_call_is_recorded_and_others_repeat_it(monkeypatch):
    monkeypatch.setattr(graphs, "Graph", Stand)
    step = Recorder(lambda x: "computed")
    assert [step(gpu()) for _ in range(3)] == ["computed", "replayed", "replayed"]
    assert step(gpu((3,))) == "computed"  # another shape
    assert step(gpu()) == "replayed"
    step.renew()
    assert [step(gpu()) for _ in range(2)] == ["computed", "replayed"]


def test_a_cpu_and_who_does_not_want_it_record_nothing(monkeypatch):
    monkeypatch.setattr(graphs, "Graph", Stand)
    step, unwanted = Recorder(lambda x: "computed"), Recorder(lambda x: "computed", enabled=False)
    assert [step(torch.ones(2)) for _ in range(3)] == ["computed"] * 3
    assert [unwanted(gpu()) for _ in range(3)] == ["computed"] * 3


def test_a_function_that_cannot_be_recorded_is_computed(monkeypatch):
    attempts = []

    def fail(*arguments):
        attempts.append(arguments)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "Graph", fail)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    step = Recorder(lambda x: "computed")
    assert [step(gpu()) for _ in range(4)] == ["computed"] * 4
    step.renew()
    assert [step(gpu()) for _ in range(2)] == ["computed"] * 2
    assert len(attempts) == 1


def test_a_graph_draws_the_numbers_that_the_function_would(device):
    def draw(x):
        return x + torch.rand(x.shape, generator=generator, device=device)

    found = []
    for enabled in (False, True):
        generator = Generator(device).manual_seed(0)
        step = Recorder(draw, generators=[generator], enabled=enabled)
        x = torch.arange(4.0, device=device)
        found.append([step(x + i).clone() for i in range(5)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


NAMES = {"vae": {}, "wae": {}, "rae_gp": {}, "vamp": {"n_pseudo_inputs": 7, "warm_up": 3}, "hvae": {}, "rhvae": {}}


@pytest.mark.parametrize("name", NAMES)
def test_training_with_graphs_is_training_without(device, name):
    """Epochs of whole batches and a smaller last one, with a learning rate and a warm-up that change between them."""
    data = torch.randint(0, 256, (90, 1, 32, 32), dtype=torch.uint8, generator=Generator().manual_seed(0))
    losses = []
    for recorded in (False, True):
        options = {"network": "mlp", "width": 16, "latent_dim": 3, **NAMES[name]}
        model = build_model(name, (1, 32, 32), seed=0, **options).to(device)
        trainer = Trainer(epochs=4, batch_size=20, graphs=recorded, plateau_patience=0, precision="fp32")
        records = list(trainer.run(trainer.start(model, seed=1), data, data[:20]))
        losses.append([list(record.train.values()) for record in records])
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_every_models_step_can_be_recorded(monkeypatch, device, name):
    made = []
    graph = graphs.Graph
    monkeypatch.setattr(graphs, "Graph", lambda *arguments: made.append(graph(*arguments)) or made[-1])
    data = torch.zeros(60, 1, 32, 32, dtype=torch.uint8)
    model = build_model(name, (1, 32, 32), network="mlp", width=16, latent_dim=3, **NAMES[name]).to(device)
    trainer = Trainer(epochs=1, batch_size=20, graphs=True)
    list(trainer.run(trainer.start(model), data, data[:20]))
    assert len(made) == (1 if device.type == "cuda" else 0)
