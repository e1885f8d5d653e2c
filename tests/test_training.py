"""Training: its arithmetic, its schedule, and that a killed run goes on bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Generator

from geovae import checkpoint
from geovae.images import to_float
from geovae.models import build_model
from geovae.training import Trainer

ROOT = Path(__file__).parents[1]


def images(n=50, seed=0):
    return torch.randint(0, 256, (n, 1, 32, 32), dtype=torch.uint8, generator=Generator().manual_seed(seed))


def model(**options):
    return build_model("vae", (1, 32, 32), **{"network": "mlp", "width": 16, "latent_dim": 3, **options})


def test_it_is_adam_on_shuffled_batches():
    """The same as a loop written here: order, noise and steps are drawn from one generator."""
    data, ours, plain = images(), model(), model()
    trainer = Trainer(epochs=2, batch_size=20, learning_rate=1e-3)
    list(trainer.run(trainer.start(ours, seed=7), data, data[:10]))
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)
    generator = Generator().manual_seed(7)
    for _ in range(2):
        plain.train()
        for batch in torch.randperm(50, generator=generator).split(20):
            optimizer.zero_grad()
            plain.loss(to_float(data[batch]), generator)["loss"].backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_records_are_means_over_images_and_the_best_weights_are_kept(device):
    network = model().to(device)
    trainer = Trainer(epochs=5, batch_size=16, learning_rate=3e-3)
    state = trainer.start(network)
    records = list(trainer.run(state, images(), images(11, seed=1)))
    assert [r.epoch for r in records] == [1, 2, 3, 4, 5]
    best = min(records, key=lambda r: r.val["loss"])
    assert state.best_record == best
    state.load_best()
    generator = Generator(device).manual_seed(best.epoch - 1)
    batches = images(11, seed=1).to(device).split(16)
    with torch.no_grad():
        again = float(network.loss(to_float(batches[0]), generator)["loss"])
    assert again == pytest.approx(best.val["loss"], rel=1e-5)


class Unteachable(torch.nn.Module):
    """A model whose loss never changes."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def loss(self, x, generator):
        return {"loss": 1.0 + 0.0 * self.weight}


def test_the_plateau_halves_the_learning_rate_and_early_stop_ends():
    trainer = Trainer(epochs=50, batch_size=50, learning_rate=1e-3, plateau_patience=1, early_stop=6)
    records = list(trainer.run(trainer.start(Unteachable()), images(), images(20, seed=2)))
    # the first epoch is the best; more than one bad epoch in a row halves; six bad ones end it
    assert [r.learning_rate for r in records] == [1e-3, 1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4]
    assert [r.best for r in records] == [True] + [False] * 6


def test_bf16_trains(device):
    trainer = Trainer(epochs=2, batch_size=25, precision="bf16")
    records = list(trainer.run(trainer.start(model().to(device)), images(), images(10)))
    assert records[-1].train["loss"] < records[0].train["loss"] * 1.5


def test_a_restored_state_goes_on_bit_for_bit(tmp_path, device):
    data, val = images(), images(10, seed=1)
    trainer = Trainer(epochs=4, batch_size=16, plateau_patience=0)
    through = trainer.start(model(network="conv32", width=2).to(device), seed=3)
    list(trainer.run(through, data, val))

    first = trainer.start(model(network="conv32", width=2).to(device), seed=3)
    steps = trainer.run(first, data, val)
    next(steps), next(steps)
    path = checkpoint.save_training(tmp_path / "state.safetensors", first)
    again = trainer.start(model(network="conv32", width=2, seed=9).to(device), seed=99)
    checkpoint.load_training(path, again)
    list(trainer.run(again, data, val))

    ours, theirs = through.tensors(), again.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key].cpu(), theirs[key].cpu()) for key in ours)
    assert [r.val for r in through.history] == [r.val for r in again.history]
    assert through.meta()["scheduler"] == again.meta()["scheduler"]


PROGRAM = """
import sys, torch
from pathlib import Path
from experiments.config import resolve
from experiments.run import run
torch.set_num_threads(1)
flags = ["--data.augment=0", "--model.width=64", "--training.epochs=6", "--training.batch_size=20", "--samplers=prior",
         "--n_samples=10", "--scores=frechet", "--extractor=pixels", "--images_every=100"]
result = run(**resolve(flags), output=Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_an_epoch_ends_with_the_same_weights(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment, cwd=tmp_path)

    killed = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment, cwd=tmp_path)
    saved = tmp_path / "killed" / "checkpoint.safetensors"
    while not saved.exists() or len(checkpoint.load(saved)[1]["state"]["history"]) < 2:
        assert killed.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)  # an epoch lasts many times longer than the poll: this is inside the third
    killed.wait()
    assert len(checkpoint.load(saved)[1]["state"]["history"]) < 6
    subprocess.run([*command, str(tmp_path / "killed")], check=True, env=environment, cwd=tmp_path)

    for name in ("checkpoint.safetensors", "model.safetensors"):
        whole, resumed = (checkpoint.load(tmp_path / folder / name)[0] for folder in ("whole", "killed"))
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[key], resumed[key]) for key in whole), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "`epochs` must be at least 1, got 0"),
        ({"batch_size": -3}, "`batch_size` must be at least 1, got -3"),
        ({"early_stop": 0}, "`early_stop` must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive and finite, got 0.0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be positive and finite, got nan"),
        ({"plateau_patience": -1}, "`plateau_patience` must be 0 or more, got -1"),
        ({"plateau_factor": 1.0}, "`plateau_factor` must lie between 0 and 1, got 1.0"),
        ({"precision": "fp8"}, "`precision` must be fp32 or bf16, got 'fp8'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Trainer(**options)


def test_a_batch_larger_than_the_set_is_refused():
    trainer = Trainer(batch_size=51)
    with pytest.raises(
        ValueError, match="`batch_size` 51 is larger than the training set of 50 images"
    ):
        next(trainer.run(trainer.start(model()), images(), images(5)))


def test_divergence_is_an_error_that_names_the_remedy_and_keeps_the_best_weights():
    trainer = Trainer(epochs=30, batch_size=10, learning_rate=1e4)
    state = trainer.start(model())
    with pytest.raises(ValueError, match=r"training diverged in epoch \d+: .* lower `learning_rate` \(now 10000\)"):
        list(trainer.run(state, images(), images(5)))
    assert all(value.isfinite().all() for value in state.best.values())
