"""Training as a generator: one `EpochRecord` an epoch, the caller decides what to do with it.

The data are one tensor, indexed batch by batch; uint8 images become floats on the device. All that a run needs
to go on bit for bit (weights, optimizer, schedule, random state) lives in `TrainState`.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from geovae.images import to_float


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch did: mean losses over the training and validation images, in nats or squared units.

    `time` is seconds since the Unix epoch at the record's end, `seconds` the epoch's duration, validation included.
    """

    epoch: int
    train: dict[str, float]
    val: dict[str, float]
    learning_rate: float
    seconds: float
    time: float
    best: bool


class TrainState:
    """Everything that changes while training; `tensors()` and `meta()` hold it all, `restore` takes it back."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Adam,
        scheduler: ReduceLROnPlateau,
        generator: Generator,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.generator = generator
        self.history: list[EpochRecord] = []
        self.best: dict[str, Tensor] = {}

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
        """Return the rest of the state as what JSON can hold."""
        return {
            "param_groups": self.optimizer.state_dict()["param_groups"],
            "scheduler": self.scheduler.state_dict(),
            "history": [asdict(record) for record in self.history],
        }

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Take back what `tensors` and `meta` returned; the architecture and the device's kind must be the same."""
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("optimizer.", tensors).items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        self.model.load_state_dict(_below("model.", tensors))
        self.best = _below("best.", tensors)
        self.optimizer.load_state_dict({"state": moments, "param_groups": meta["param_groups"]})
        self.scheduler.load_state_dict(meta["scheduler"])
        self.generator.set_state(tensors["generator"].cpu())
        self.history = [EpochRecord(**record) for record in meta["history"]]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


class Trainer:
    """Adam with a plateau schedule on the validation loss, keeping the weights of the best epoch.

    Args:
        epochs: how many passes over the training images at most.
        batch_size: images a step; the last batch of an epoch may be smaller.
        learning_rate: Adam's step size at the start.
        plateau_patience: epochs without a better validation loss before the learning rate is multiplied.
        plateau_factor: what it is multiplied by, between 0 and 1.
        early_stop: epochs without a better validation loss before training ends; none for never.
        precision: `fp32`, or `bf16` for automatic mixed precision.
    """

    def __init__(
        self,
        *,
        epochs: int = 100,
        batch_size: int = 100,
        learning_rate: float = 1e-3,
        plateau_patience: int = 5,
        plateau_factor: float = 0.5,
        early_stop: int | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        for name, value in {"epochs": epochs, "batch_size": batch_size, "early_stop": early_stop}.items():
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}")
        if not 0 < learning_rate < math.inf:
            raise ValueError(f"`learning_rate` must be positive and finite, got {learning_rate}")
        if plateau_patience < 0:
            raise ValueError(f"`plateau_patience` must be 0 or more, got {plateau_patience}")
        if not 0 < plateau_factor < 1:
            raise ValueError(f"`plateau_factor` must lie between 0 and 1, got {plateau_factor}")
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"`precision` must be fp32 or bf16, got {precision!r}")
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.plateau_patience = plateau_patience
        self.plateau_factor = plateau_factor
        self.early_stop = early_stop
        self.precision = precision

    def start(self, model: nn.Module, *, seed: int = 0) -> TrainState:
        """Return the state before the first epoch; shuffling and latent noise are drawn from `seed`."""
        device = next(model.parameters()).device
        optimizer = torch.optim.Adam(model.parameters(), lr=self.learning_rate, fused=True)
        scheduler = ReduceLROnPlateau(optimizer, factor=self.plateau_factor, patience=self.plateau_patience)
        return TrainState(model, optimizer, scheduler, Generator(device).manual_seed(seed))

    def run(self, state: TrainState, train: Tensor, val: Tensor) -> Iterator[EpochRecord]:
        """Train from where `state` stands, yielding one record an epoch after the state is up to date.

        Args:
            state: from `start`, or restored from a checkpoint.
            train: images (n, c, h, w), uint8 or float in [0, 1].
            val: held-out images, likewise.

        Raises:
            ValueError: if a batch is larger than the training set, or the loss stops being finite.
        """
        if self.batch_size > len(train):
            raise ValueError(
                f"`batch_size` {self.batch_size} is larger than the training set of {len(train)} images; "
                f"use at most {len(train)}"
            )
        device = next(state.model.parameters()).device
        train, val = train.to(device), val.to(device)
        if not state.history:
            _tell(state.model, "prepare", train, state.generator)
        while state.epoch < self.epochs and not self._stalled(state):
            started = time.perf_counter()
            _tell(state.model, "begin_epoch", state.epoch + 1)
            train_losses = self._train_epoch(state, train)
            _tell(state.model, "end_epoch", train)
            val_losses = self._validate(state.model, val, state.epoch)
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

    def _stalled(self, state: TrainState) -> bool:
        if self.early_stop is None or not state.history:
            return False
        return state.epoch - state.best_record.epoch >= self.early_stop

    def _train_epoch(self, state: TrainState, images: Tensor) -> dict[str, float]:
        state.model.train()
        order = torch.randperm(len(images), generator=state.generator, device=images.device)
        totals: dict[str, Tensor] = {}
        for batch in order.split(self.batch_size):
            losses = self._losses(state.model, images[batch], state.generator)
            state.optimizer.zero_grad()
            losses["loss"].backward()
            state.optimizer.step()
            _accumulate(totals, losses, len(batch))
        return _means(totals, len(images))

    @torch.no_grad()
    def _validate(self, model: nn.Module, images: Tensor, epoch: int) -> dict[str, float]:
        model.eval()
        generator = Generator(images.device).manual_seed(epoch)  # apart from training's: validating changes nothing
        totals: dict[str, Tensor] = {}
        for batch in images.split(self.batch_size):
            _accumulate(totals, self._losses(model, batch, generator), len(batch))
        return _means(totals, len(images))

    def _losses(self, model: Any, images: Tensor, generator: Generator) -> dict[str, Tensor]:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return model.loss(to_float(images), generator)

    def _check_finite(self, epoch: int, losses: dict[str, float]) -> None:
        bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
        if bad:
            raise ValueError(
                f"training diverged in epoch {epoch}: {', '.join(f'{n} is {v}' for n, v in bad.items())}; "
                f"lower `learning_rate` (now {self.learning_rate:g})"
            )


def _tell(model: nn.Module, hook: str, *arguments: Any) -> None:
    """Call a hook (`prepare`, `begin_epoch`, `end_epoch`) of a model that has it."""
    if hasattr(model, hook):
        getattr(model, hook)(*arguments)


def _accumulate(totals: dict[str, Tensor], losses: dict[str, Tensor], count: int) -> None:
    """Add batch means times `count` on the device: nothing waits for it before the epoch ends."""
    for name, value in losses.items():
        totals[name] = totals.get(name, 0.0) + value.detach().double() * count


def _means(totals: dict[str, Tensor], count: int) -> dict[str, float]:
    return {name: float(total) / count for name, total in totals.items()}
