"""Training as a generator of `EpochRecord`s: the caller decides what to record and when to save.

The data are one tensor, indexed batch by batch; uint8 images become floats on the device. All that a run needs
to go on bit for bit (weights, optimizer, schedule, random state) lives in `TrainState`.
"""

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from geovae.batches import Batches
from geovae.checks import check_choice, check_count, check_positive
from geovae.devices import (
    PRECISIONS,
    Precision,
    choose_precision,
    deterministic_kernels,
    float32_products,
    flushed_subnormals,
)
from geovae.graphs import Recorder
from geovae.images import to_float

Losses = dict[str, Tensor]


class Arithmetic(NamedTuple):
    """What the steps are computed in: `fp32`, `tf32` or `bf16`, and how images and filters lie in memory."""

    precision: str
    layout: torch.memory_format


@dataclass(frozen=True)
class EpochRecord:
    """The record of one epoch: mean losses over the training and validation images, in nats or squared units.

    With clipping, `train` also has `grad_norm`, the mean norm of the gradients before clipping.
    `time` is seconds since the Unix epoch at the record's end, `seconds` the epoch's duration, validation included.
    """

    epoch: int
    train: dict[str, float]
    val: dict[str, float]
    learning_rate: float
    seconds: float
    time: float
    best: bool


@dataclass(frozen=True)
class TrainingSummary:
    """How a training ended; `undertrained` if its validation loss was still falling when its epochs were used up."""

    epochs: int
    best_epoch: int
    best_loss: float
    undertrained: bool

    def __str__(self) -> str:
        """Return it as a sentence."""
        text = f"{self.epochs} epochs, the best was epoch {self.best_epoch} (validation loss {self.best_loss:.4g})"
        return text + "; the loss was still falling: give it more `epochs`" * self.undertrained


@dataclass(eq=False)
class TrainState:
    """Everything that changes while training; `tensors()` and `meta()` return it, `restore` sets it."""

    model: nn.Module
    optimizer: torch.optim.Adam
    scheduler: ReduceLROnPlateau
    generator: Generator
    history: list[EpochRecord] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def best_record(self) -> EpochRecord:
        """The record of the epoch with the lowest validation loss."""
        return [record for record in self.history if record.best][-1]

    def load_best(self) -> nn.Module:
        """Put the weights of the best epoch into the model, and return it in evaluation mode."""
        self.model.load_state_dict(self.best)
        return self.model.eval()

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the state under a dotted name."""
        named = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        named |= {f"best.{name}": value for name, value in self.best.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            named |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        return named | {"generator": self.generator.get_state()}

    def meta(self) -> dict[str, Any]:
        """Return the rest of the state, as JSON can hold it."""
        return {
            "param_groups": self.optimizer.state_dict()["param_groups"],
            "scheduler": self.scheduler.state_dict(),
            "history": [asdict(record) for record in self.history],
        }

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Set the state from what `tensors` and `meta` returned, of the same architecture and kind of device."""
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("optimizer.", tensors).items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        self.model.load_state_dict(_below("model.", tensors))
        self.best = _below("best.", tensors)
        capturable = self.optimizer.param_groups[0]["capturable"]  # of this machine, not of the file's
        asked = [group["initial_lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict({"state": moments, "param_groups": meta["param_groups"]})
        _match_layouts(self.optimizer)
        for group, rate in zip(self.optimizer.param_groups, asked, strict=True):
            if group.get("initial_lr", rate) != rate:  # resumed with another learning rate
                group["lr"] *= rate / group["initial_lr"]
            group["initial_lr"], group["capturable"] = rate, capturable
        self.scheduler.load_state_dict(meta["scheduler"])
        self.generator.set_state(tensors["generator"].cpu())
        self.history = [EpochRecord(**record) for record in meta["history"]]


def _match_layouts(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the memory layout of their parameters, which a file does not keep: fused Adam needs both equal."""
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(value)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@dataclass(kw_only=True, eq=False)
class Trainer:
    """Adam with a plateau schedule on the validation loss, keeping the weights of the best epoch.

    Args:
        epochs: how many passes over the training images at most.
        batch_size: images a step; the last batch of an epoch may be smaller.
        learning_rate: Adam's step size at the start.
        plateau_patience: epochs without a better validation loss before the learning rate is multiplied.
        plateau_factor: what it is multiplied by, between 0 and 1.
        early_stop: epochs without a better validation loss before training ends; None: never.
        min_delta: part of the validation loss by which it must fall to count as better, for the plateau and the early
            stop; the weights that are kept are those of the lowest loss.
        precision: `fp32`; `tf32`, products of matrices and convolutions with 10 bits of fraction on a GPU; `bf16`,
            automatic mixed precision; or `auto`: bf16 on a GPU of 2020 or later, fp32 elsewhere.
        clip_grad_norm: largest norm of the gradient of all parameters together; None: no limit.
        channels_last: keep images and filters with the channels innermost, which suits convolutions on recent GPUs;
            None: where a network with convolutions trains in bf16 on a GPU.
        compile: compile the loss with torch.compile; the first steps last a minute or more. It needs a C++ compiler.
        graphs: launch a step's kernels together, recorded at an epoch's second step, on a GPU and without `compile`;
            a model whose loss asks the host something trains without. A loss must not change numbers of its own.
        deterministic: use kernels that give the same bits each time, which a GPU otherwise trades for speed; then a
            resumed run repeats an uninterrupted one bit for bit there too, as it always does on a CPU.
        stream: copy training images to the GPU in chunks instead of keeping them there; None: when they need more
            than half of its free memory. On a CPU it has no effect.
    """

    epochs: int = 100
    batch_size: int = 100
    learning_rate: float = 1e-3
    plateau_patience: int = 5
    plateau_factor: float = 0.5
    early_stop: int | None = None
    min_delta: float = 1e-4
    precision: Precision = "auto"
    clip_grad_norm: float | None = None
    channels_last: bool | None = None
    compile: bool = False
    graphs: bool = True
    deterministic: bool = False
    stream: bool | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_count(epochs=self.epochs, batch_size=self.batch_size)
        check_count(low=0, plateau_patience=self.plateau_patience)
        check_positive(learning_rate=self.learning_rate)
        if not 0 < self.plateau_factor < 1:
            raise ValueError(f"`plateau_factor` must lie between 0 and 1, got {self.plateau_factor}")
        if self.early_stop is not None:
            check_count(early_stop=self.early_stop)
        if not 0 <= self.min_delta < 1:
            raise ValueError(f"`min_delta` must lie in [0, 1), got {self.min_delta}")
        check_choice("precision", self.precision, PRECISIONS)
        if self.clip_grad_norm is not None:
            check_positive(clip_grad_norm=self.clip_grad_norm)

    def arithmetic(self, model: nn.Module) -> Arithmetic:
        """Return what `precision` and `channels_last` stand for where `model` is."""
        device = next(model.parameters()).device
        precision, innermost = choose_precision(self.precision, device), self.channels_last
        if innermost is None:
            convolves = any(isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) for layer in model.modules())
            innermost = convolves and precision == "bf16" and device.type == "cuda"
        return Arithmetic(precision, torch.channels_last if innermost else torch.contiguous_format)

    def start(self, model: nn.Module, *, seed: int = 0) -> TrainState:
        """Return the state before the first epoch; shuffling and latent noise are drawn from `seed`."""
        device = next(model.parameters()).device
        layout = self.arithmetic(model).layout
        model.to(memory_format=layout)  # type: ignore[call-overload]  # before the optimizer: its moments take the parameters' layout
        optimizer = torch.optim.Adam(
            model.parameters(), lr=self.learning_rate, fused=True, capturable=self._records(device)
        )
        for group in optimizer.param_groups:
            group["initial_lr"] = self.learning_rate  # base rate that the scheduler scales
        plateau = {"factor": self.plateau_factor, "patience": self.plateau_patience, "threshold": self.min_delta}
        scheduler = ReduceLROnPlateau(optimizer, **plateau)  # type: ignore[arg-type]  # ints and floats
        return TrainState(model, optimizer, scheduler, Generator(device).manual_seed(seed))

    def require(self, n: int) -> None:
        """Raise a ValueError if `n` training images are fewer than a batch."""
        if self.batch_size > n:
            raise ValueError(
                f"`batch_size` {self.batch_size} is larger than the training set of {n} images; use at most {n}"
            )

    def run(self, state: TrainState, train: Tensor, val: Tensor) -> Iterator[EpochRecord]:
        """Train from where `state` stands, yielding one record an epoch after the state is up to date.

        Args:
            state: from `start`, or restored from a checkpoint.
            train: images (n, c, h, w), uint8 or float in [0, 1].
            val: held-out images, likewise.

        Raises:
            ValueError: if a batch is larger than the training set, or the loss stops being finite.
        """
        self.require(len(train))
        device = next(state.model.parameters()).device
        self._check_place(state.model)
        train_batches = Batches(train, device, self.batch_size, self.stream)
        val_batches = Batches(val, device, self.batch_size, self.stream)
        loss: Any = state.model.loss
        loss = torch.compile(loss) if self.compile else loss
        step = Recorder(partial(self._step, state, loss), generators=[state.generator], enabled=self._records(device))
        tf32 = self.arithmetic(state.model).precision == "tf32"
        if not state.history:  # a resumed run has prepared its model already
            with self._arithmetic_of_run(tf32=tf32):
                _call_callback(state.model, "prepare", train_batches.images, state.generator)
        while state.epoch < self.epochs and not self._stalled(state):
            started = time.perf_counter()
            with self._arithmetic_of_run(tf32=tf32):
                _call_callback(state.model, "begin_epoch", state.epoch + 1)
                train_losses = self._train_epoch(state, step, train_batches)
                _call_callback(state.model, "end_epoch", train_batches.images)
                val_losses = self._validate(state.model, loss, val_batches, state.epoch)
            learning_rate = state.optimizer.param_groups[0]["lr"]
            best = not state.history or val_losses["loss"] < state.best_record.val["loss"]
            self._check_finite(state.epoch + 1, train_losses | {"val_loss": val_losses["loss"]})
            if best:
                state.best = {name: value.clone() for name, value in state.model.state_dict().items()}
            state.scheduler.step(val_losses["loss"])
            seconds = time.perf_counter() - started
            record = EpochRecord(state.epoch + 1, train_losses, val_losses, learning_rate, seconds, time.time(), best)
            state.history.append(record)
            yield record

    @contextmanager
    def _arithmetic_of_run(self, *, tf32: bool) -> Iterator[None]:
        with deterministic_kernels(self.deterministic), float32_products(tf32=tf32), flushed_subnormals():
            yield

    def summarize(self, state: TrainState) -> TrainingSummary:
        """Return how the training of `state`, of at least one epoch, has ended.

        It is undertrained if no early stop ended it, and the loss fell by more than `min_delta` an epoch over the last
        tenth of the epochs.
        """
        losses = [record.val["loss"] for record in state.history]
        last = max(1, len(losses) // 10)
        before = min(losses[:-last], default=math.inf)  # of a single epoch nothing shows that it was enough
        falling = len(losses) == last or before - min(losses[-last:]) > last * self.min_delta * abs(before)
        best = state.best_record
        return TrainingSummary(
            state.epoch, best.epoch, best.val["loss"], undertrained=falling and not self._stalled(state)
        )

    def _stalled(self, state: TrainState) -> bool:
        if self.early_stop is None or not state.history:
            return False
        better, best = 0, math.nan
        for record in state.history:
            loss = record.val["loss"]
            if not better or loss < best - self.min_delta * abs(best):  # torch's relative threshold
                better, best = record.epoch, loss
        return state.epoch - better >= self.early_stop

    def _check_place(self, model: nn.Module) -> None:
        if self.compile and getattr(model, "second_derivatives", False):
            raise ValueError(
                f"`compile` cannot differentiate a gradient, which the loss of {type(model).__name__} needs; "
                "leave it off (or, for hvae and rhvae, `through_force`)"
            )
        if self.compile and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
            raise ValueError("`compile` needs a C++ compiler, and finds no g++ or clang++; install one or leave it off")

    def _records(self, device: torch.device) -> bool:
        return self.graphs and not self.compile and device.type == "cuda"

    def _train_epoch(self, state: TrainState, step: Recorder, batches: Batches) -> dict[str, float]:
        state.model.train()
        step.renew()  # the learning rate and the weights of a warm-up change between epochs
        totals = Losses()
        for images in batches.shuffled(state.generator):
            _accumulate(totals, step(images), len(images))
        return _means(totals, len(batches))

    def _step(self, state: TrainState, loss: Callable[..., Losses], images: Tensor) -> Losses:
        """Take a step of Adam and return the losses before it."""
        losses = _losses(loss, images, state.generator, self.arithmetic(state.model))
        state.optimizer.zero_grad()
        losses["loss"].backward()
        if self.clip_grad_norm is not None:
            norm = nn.utils.clip_grad_norm_(state.model.parameters(), self.clip_grad_norm)
            losses = losses | {"grad_norm": norm}
        state.optimizer.step()
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def _validate(
        self, model: nn.Module, loss: Callable[..., Losses], batches: Batches, epoch: int
    ) -> dict[str, float]:
        model.eval()
        generator = Generator(batches.device).manual_seed(epoch)  # apart from training's: validating changes nothing
        arithmetic, totals = self.arithmetic(model), Losses()
        for images in batches.in_order():
            _accumulate(totals, _losses(loss, images, generator, arithmetic), len(images))
        return _means(totals, len(batches))

    def _check_finite(self, epoch: int, losses: dict[str, float]) -> None:
        bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
        if bad:
            raise ValueError(
                f"training diverged in epoch {epoch}: {', '.join(f'{n} is {v}' for n, v in bad.items())}; "
                f"lower `learning_rate` (now {self.learning_rate:g})"
            )


def _losses(loss: Callable[..., Losses], images: Tensor, generator: Generator, arithmetic: Arithmetic) -> Losses:
    x = to_float(images).contiguous(memory_format=arithmetic.layout)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=arithmetic.precision == "bf16"):
        return loss(x, generator)


def _call_callback(model: nn.Module, callback: str, *arguments: Any) -> None:
    """Call the callback `prepare`, `begin_epoch` or `end_epoch`, if the model defines it."""
    if hasattr(model, callback):
        getattr(model, callback)(*arguments)


def _accumulate(totals: Losses, losses: Losses, count: int) -> None:
    """Add batch means times `count` on the device: nothing waits for it before the epoch ends."""
    for name, value in losses.items():
        totals[name] = totals.get(name, 0.0) + value.detach().double() * count


def _means(totals: Losses, count: int) -> dict[str, float]:
    return {name: float(total) / count for name, total in totals.items()}
