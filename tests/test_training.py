"""Training: its arithmetic, its schedule, and that a killed run goes on bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Generator

from geovae import checkpoint
from geovae.batches import Batches, fits, stream_batches
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


class Scripted(torch.nn.Module):
    """A model whose validation losses are given."""

    def __init__(self, losses):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.losses = iter(losses)

    def loss(self, x, generator):
        return {"loss": 0.0 * self.weight + (1.0 if self.training else next(self.losses))}


def end(losses, **options):
    """Train for as many epochs as there are losses, and return the summary."""
    trainer = Trainer(epochs=len(losses), batch_size=50, **options)
    state = trainer.start(Scripted(losses))
    list(trainer.run(state, images(), images(20)))
    return trainer.summarize(state)


def test_a_fall_below_min_delta_delays_neither_the_plateau_nor_the_early_stop():
    creeping = [1.0 - 1e-3 * i for i in range(10)]
    assert end(creeping, early_stop=3, min_delta=1e-4).epochs == 10
    assert end(creeping, early_stop=3, min_delta=1e-2).epochs == 4
    assert end(creeping, early_stop=3, min_delta=1e-2).best_epoch == 4  # the weights of the lowest loss are kept
    steps = [1.0, 0.995, 0.985, 0.984, 0.983, 0.982, 0.981]  # the third is the last that counts
    assert end(steps, early_stop=3, min_delta=1e-2).epochs == 6

    trainer = Trainer(epochs=5, batch_size=50, learning_rate=1e-3, plateau_patience=1, min_delta=1e-2)
    records = list(trainer.run(trainer.start(Scripted(creeping)), images(), images(20)))
    assert [record.learning_rate for record in records] == [1e-3, 1e-3, 1e-3, 5e-4, 5e-4]


@pytest.mark.parametrize(
    ("losses", "options", "undertrained"),
    [
        ([2.0 - 0.05 * i for i in range(20)], {}, True),
        ([2.0 - 0.05 * i for i in range(16)] + [1.3] * 4, {}, False),  # has stopped
        ([1.0 / (i + 1) for i in range(15)] + [9.0] * 5, {}, False),  # has turned
        ([1.0] * 10 + [1.0 - 1e-6 * i for i in range(10)], {}, False),  # creeps
        ([1.0, 1.0, 1.0, 1.0, 0.5], {"early_stop": 3}, False),  # the early stop came before
        ([1.0, 0.5, 0.4], {"early_stop": 3}, True),  # it never came
        ([1.0], {}, True),  # nothing shows that one epoch is enough
    ],
)
def test_a_training_whose_loss_still_falls_at_its_end_is_undertrained(losses, options, undertrained):
    summary = end(losses, **options)
    assert summary.undertrained == undertrained
    assert ("give it more `epochs`" in str(summary)) == undertrained
    assert f"{summary.epochs} epochs, the best was epoch {summary.best_epoch} " in str(summary)


def test_bf16_trains(device):
    trainer = Trainer(epochs=2, batch_size=25, precision="bf16")
    records = list(trainer.run(trainer.start(model().to(device)), images(), images(10)))
    assert records[-1].train["loss"] < records[0].train["loss"] * 1.5


RESUMED = {
    "vae": {},
    "rae_sn": {},
    "vamp": {"n_pseudo_inputs": 7, "warm_up": 5},
    "rhvae": {"n_centroids": 20, "tempering": "free", "learn_step_size": True},
}


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", RESUMED)
def test_a_restored_state_goes_on_bit_for_bit(tmp_path, device, name, channels_last, deterministic):
    """On a GPU with `deterministic`; without it, as close as the sums of its kernels, whose order changes, allow."""

    def fresh(seed):
        options = {"network": "conv32", "width": 2, "latent_dim": 3, **RESUMED[name]}
        return build_model(name, (1, 32, 32), seed=seed, **options).to(device)

    data, val = images(), images(10, seed=1)
    options = {"plateau_patience": 0, "clip_grad_norm": 50.0, "precision": "fp32"}
    trainer = Trainer(epochs=4, batch_size=16, channels_last=channels_last, deterministic=deterministic, **options)
    through = trainer.start(fresh(0), seed=3)
    list(trainer.run(through, data, val))

    first = trainer.start(fresh(0), seed=3)
    steps = trainer.run(first, data, val)
    next(steps), next(steps)
    path = checkpoint.save_training(tmp_path / "state.safetensors", first)
    again = trainer.start(fresh(9), seed=99)
    checkpoint.load_training(path, again)
    list(trainer.run(again, data, val))

    ours, theirs = through.tensors(), again.tensors()
    assert ours.keys() == theirs.keys()
    losses = [[r.val["loss"] for r in state.history] for state in (through, again)]
    if device.type == "cpu" or deterministic:
        assert all(torch.equal(ours[key].cpu(), theirs[key].cpu()) for key in ours)
        assert [r.val for r in through.history] == [r.val for r in again.history]
        assert through.meta()["scheduler"] == again.meta()["scheduler"]
    else:
        assert losses[1] == pytest.approx(losses[0], rel=1e-2)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_a_resumed_run_keeps_the_plateaus_part_of_the_learning_rate_it_asks_for(tmp_path, factor):
    """Another learning rate than before is multiplied by what the plateaus have left of the old one."""
    options = {"batch_size": 20, "plateau_patience": 0}
    trainer = Trainer(epochs=3, learning_rate=1e-2, **options)
    state = trainer.start(Unteachable())
    list(trainer.run(state, images(), images()))
    checkpoint.save_training(tmp_path / "c", state)
    resumed = Trainer(epochs=4, learning_rate=factor * 1e-2, **options)
    state = resumed.start(Unteachable())
    checkpoint.load_training(tmp_path / "c", state)
    (record,) = resumed.run(state, images(), images())
    assert record.learning_rate == pytest.approx(factor * 1e-2 / 4)  # halved twice; the first epoch is always the best


def test_clipping_limits_the_gradient_and_records_its_norm():
    """One step of plain gradient descent would have this length; Adam's is another, so the gradient itself is read."""
    network = model()
    trainer = Trainer(epochs=1, batch_size=50, clip_grad_norm=0.5)
    record = next(trainer.run(trainer.start(network), images(), images(10)))
    assert record.train["grad_norm"] > 0.5
    norms = torch.stack([p.grad.norm() for p in network.parameters()])
    assert float(norms.norm()) == pytest.approx(0.5, rel=1e-4)
    assert "grad_norm" not in record.val


def test_channels_last_changes_the_layout_and_not_the_losses():
    records = []
    for channels_last in (False, True):
        network = model(network="conv32", width=4)
        trainer = Trainer(epochs=1, batch_size=25, channels_last=channels_last)
        records.append(next(trainer.run(trainer.start(network), images(), images(10))))
        filters = [p for p in network.parameters() if p.ndim == 4 and p.shape[1] > 1]
        assert all(p.is_contiguous(memory_format=torch.channels_last) == channels_last for p in filters)
    assert records[0].train["loss"] == pytest.approx(records[1].train["loss"], rel=1e-3)


def test_deterministic_mode_holds_while_training_only():
    seen = []

    class Watching(Unteachable):
        def loss(self, x, generator):
            seen.append(torch.are_deterministic_algorithms_enabled())
            return super().loss(x, generator)

    trainer = Trainer(epochs=1, batch_size=50, deterministic=True)
    for _ in trainer.run(trainer.start(Watching()), images(), images(10)):
        assert not torch.are_deterministic_algorithms_enabled()
    assert seen == [True, True]


def test_compile_wraps_the_loss(monkeypatch):
    """What torch.compile itself does takes a minute; benchmarks/training.py runs it."""
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    network = model()
    trainer = Trainer(epochs=1, batch_size=50, compile=True)
    list(trainer.run(trainer.start(network), images(), images(10)))
    assert compiled == [network.loss]


def test_compile_is_refused_where_it_cannot_work(monkeypatch):
    trainer = Trainer(epochs=1, batch_size=50, compile=True)
    network = build_model("rae_gp", (1, 32, 32), network="mlp", width=8)
    with pytest.raises(ValueError, match="`compile` cannot differentiate a gradient, which the loss of RAEGP needs"):
        next(trainer.run(trainer.start(network), images(), images(10)))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="`compile` needs a C\\+\\+ compiler"):
        next(trainer.run(trainer.start(model()), images(), images(10)))


class Listening(Unteachable):
    """A model that notes which hooks are called with what."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def prepare(self, images, generator):
        self.heard.append(("prepare", len(images)))

    def begin_epoch(self, epoch):
        self.heard.append(("begin", epoch))

    def end_epoch(self, images):
        self.heard.append(("end", len(images)))


def test_the_hooks_of_a_model_are_called_in_order_and_preparation_once():
    network, trainer = Listening(), Trainer(epochs=2, batch_size=50)
    state = trainer.start(network)
    next(trainer.run(state, images(), images(10)))
    assert network.heard == [("prepare", 50), ("begin", 1), ("end", 50)]
    next(trainer.run(state, images(), images(10)))  # goes on, as after a restart
    assert network.heard[3:] == [("begin", 2), ("end", 50)]


@pytest.mark.parametrize("chunk_bytes", [1, 5 * 1024 * 7, 2**30])
def test_streamed_batches_are_those_of_the_resident_set(device, chunk_bytes):
    """Chunks of one batch, of five batches (the last one smaller), and of everything."""
    data = images(73)
    order = torch.randperm(73, generator=Generator(device).manual_seed(4), device=device)
    batches = list(stream_batches(data, order, 7, device, chunk_bytes))
    expected = [data.to(device)[batch] for batch in order.split(7)]
    assert [len(b) for b in batches] == [7] * 10 + [3]
    assert all(torch.equal(a, b) for a, b in zip(batches, expected, strict=True))
    assert all(b.device.type == device.type for b in batches)


def test_a_set_is_streamed_when_it_would_fill_the_gpu(monkeypatch):
    data = images(100)  # 102,400 bytes
    for free, streamed in ((300_000, False), (200_000, True)):
        monkeypatch.setattr("geovae.batches.free_memory", lambda device, free=free: free)
        assert fits(data, torch.device("cuda")) != streamed
    assert fits(data, torch.device("cpu"))
    assert not Batches(data, torch.device("cpu"), 10, stream=True).streamed


def test_streaming_changes_no_result(device):
    found = []
    for stream in (False, True):
        network = model().to(device)
        trainer = Trainer(epochs=2, batch_size=16, stream=stream)
        found.append([r.val["loss"] for r in trainer.run(trainer.start(network), images(), images(10))])
    assert found[0] == found[1]


PROGRAM = """
import sys, torch
from pathlib import Path
from experiments.config import parse_options, resolve
from experiments.run import plan_run, run
torch.set_num_threads(1)
flags = ["--data.augment=0", "--model.width=64", "--training.epochs=6", "--training.batch_size=20", "--samplers=prior",
         "--n_samples=10", "--scores=frechet", "--extractor=pixels", "--images_every=100"]
result = run(plan_run(resolve(parse_options(flags))), output=Path(sys.argv[1]))
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
        ({"epochs": 0}, "`epochs` must be a whole number of at least 1, got 0"),
        ({"batch_size": -3}, "`batch_size` must be a whole number of at least 1, got -3"),
        ({"early_stop": 0}, "`early_stop` must be a whole number of at least 1, got 0"),
        ({"min_delta": -0.1}, r"`min_delta` must lie in \[0, 1\), got -0.1"),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive and finite, got 0.0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be positive and finite, got nan"),
        ({"plateau_patience": -1}, "`plateau_patience` must be a whole number of at least 0, got -1"),
        ({"plateau_factor": 1.0}, "`plateau_factor` must lie between 0 and 1, got 1.0"),
        ({"precision": "fp8"}, "`precision` must be one of auto, fp32, tf32, bf16, got 'fp8'"),
        ({"clip_grad_norm": 0.0}, "`clip_grad_norm` must be positive and finite, got 0.0"),
        ({"clip_grad_norm": float("inf")}, "`clip_grad_norm` must be positive and finite, got inf"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Trainer(**options)


def test_a_batch_larger_than_the_set_is_refused():
    trainer = Trainer(batch_size=51)
    with pytest.raises(ValueError, match="`batch_size` 51 is larger than the training set of 50 images"):
        next(trainer.run(trainer.start(model()), images(), images(5)))


def test_divergence_is_an_error_that_names_the_remedy_and_keeps_the_best_weights():
    trainer = Trainer(epochs=30, batch_size=10, learning_rate=1e4)
    state = trainer.start(model())
    with pytest.raises(ValueError, match=r"training diverged in epoch \d+: .* lower `learning_rate` \(now 10000\)"):
        list(trainer.run(state, images(), images(5)))
    assert all(value.isfinite().all() for value in state.best.values())
