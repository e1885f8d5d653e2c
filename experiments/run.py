"""One run, the whole flow: data -> model -> training -> codes -> samplers -> images -> scores -> tracker."""

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from experiments.judge import Config, Judge, Result, choose_device, magnification, plan_judge
from geovae import checkpoint
from geovae.codes import Codes, encode_images
from geovae.data import DATASETS, Splits
from geovae.figures.geometry import pullback_figure
from geovae.geometry import check_pullback
from geovae.images import as_pictures, comparison_grid, to_float
from geovae.models import build_model
from geovae.saved_model import SavedModel
from geovae.tracking import NullTracker, Tracker
from geovae.training import EpochRecord, Trainer, TrainState

CHECKPOINT = "checkpoint.safetensors"
NARROW = 2_000_000  # parameters of a network that is built and used in hundredths of a second


def run(
    *,
    data: Config,
    model: Config,
    training: Config,
    sampler: Config,
    output: Path,
    samplers: list[str] | None = None,
    n_samples: int = 500,
    extractor: str = "auto",
    scores: list[str] | None = None,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    images_every: int = 10,
    tracker: Tracker | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> Result:
    """Train a model, draw images with every sampler, score them, and tell the tracker.

    A run whose `output` holds a checkpoint goes on from there, bit for bit.

    Args:
        data: `name` in `DATASETS` and its loader's options.
        model: `name` in `MODELS` and its options.
        training: options of `Trainer`.
        sampler: options for each name in `SAMPLERS`.
        output: folder for the checkpoint and the model file.
        samplers: which samplers to draw with; by default all that the model's codes allow.
        n_samples: images to draw with each sampler.
        extractor: whose features are scored: `inception`, `random-conv-v1`, `pixels`, or `auto` for inception where its
            weights are found and random-conv-v1 elsewhere.
        scores: names in `SCORES`; by default frechet, kid, prd and precision_recall.
        seed: of the weights, the shuffling, the latent noise and the samplers.
        device: `cpu`, `cuda`, or `auto` for the GPU where there is one.
        images_every: epochs between two tracked pictures of reconstructions.
        tracker: where to report; by default nowhere.
        on_epoch: called after each epoch, when its checkpoint is on disk; what it raises ends the run.
    """
    tracker = tracker or NullTracker()
    place = choose_device(device)
    plan = check(data, model, training, sampler, samplers, n_samples, extractor, scores, seed)
    splits = load_data(data)
    plan.judge.require(len(splits.train))
    track_data(tracker, data["name"], splits)

    network: Any = build_model(model["name"], splits.image_shape, seed=seed, **_options(model)).to(place)
    state = plan.trainer.start(network, seed=seed)
    if (output / CHECKPOINT).exists():
        checkpoint.load_training(output / CHECKPOINT, state)
    train(plan.trainer, state, splits, output, tracker, images_every, on_epoch)
    tracker.artifact(output / CHECKPOINT, "checkpoints")

    network = state.load_best()
    return judge_trained(plan.judge, network, splits, data=data, model=model, seed=seed, output=output, tracker=tracker)


def judge_trained(
    judge: Judge,
    network: Any,
    splits: Splits,
    *,
    data: Config,
    model: Config,
    seed: int,
    output: Path,
    tracker: Tracker,
) -> Result:
    """Encode the training images, hold the codes against the decoder, and draw and score; the options are `run`'s."""
    codes = encode_images(network, splits.train.images)
    _track_pullback(tracker, network, codes)
    meta = {
        "model": model["name"],
        "options": _options(model),
        "image_shape": splits.image_shape,
        "data": data,
        "digest": splits.digest,
        "seed": seed,
    }
    return judge(SavedModel(network, codes, meta, splits.train.labels), splits, output, tracker)


@dataclass(frozen=True)
class Plan:
    """The parts of a run that can be built, and so checked, before any data are read."""

    trainer: Trainer
    judge: Judge


def check(
    data: Config,
    model: Config,
    training: Config,
    sampler: Config,
    samplers: list[str] | None,
    n_samples: int,
    extractor: str,
    scores: list[str] | None,
    seed: int,
) -> Plan:
    """Build what needs no data, so that a wrong option is refused before the first file is opened.

    Raises:
        ValueError: for any option out of its range, an unknown sampler, or a sampler that the model cannot feed.
    """
    judge = plan_judge(
        _untrained_codes(model, DATASETS[data["name"]].image_shape),
        model["name"],
        sampler=sampler,
        samplers=samplers,
        n_samples=n_samples,
        extractor=extractor,
        scores=scores,
        seed=seed,
    )
    return Plan(Trainer(**training), judge)


def load_data(data: Config) -> Splits:
    """Load the data set `data["name"]` with the other options."""
    return DATASETS[data["name"]](**_options(data))


def _options(section: Config) -> Config:
    return {key: value for key, value in section.items() if key != "name"}


@torch.no_grad()
def _untrained_codes(model: Config, image_shape: tuple[int, int, int] | None) -> Codes:
    """Build the model, which checks all its options, and see what its codes consist of.

    A wide network stays on torch's meta device, without memory. Encoding there imports torch's compiler, which takes
    longer than a narrow network does for real.
    """
    shape = image_shape or (1, 32, 32)
    with torch.device("meta"):
        network: Any = build_model(model["name"], shape, **_options(model))
    narrow = sum(parameter.numel() for parameter in network.parameters()) < NARROW
    with torch.device("cpu" if narrow else "meta"):
        if narrow:
            network = build_model(model["name"], shape, **_options(model))
        mu, log_var = network.eval().encode(torch.zeros(1, *shape))
    return Codes(mu, log_var, network.latent_tensors() if hasattr(network, "latent_tensors") else {})


def train(
    trainer: Trainer,
    state: TrainState,
    splits: Splits,
    output: Path,
    tracker: Tracker,
    images_every: int,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> None:
    """Train from where `state` stands, with a progress bar, a checkpoint after every epoch, and all of it tracked."""
    from tqdm import tqdm

    for record in state.history:  # of a run that goes on: the same points again, or all of them in a new run
        _track_epoch(tracker, record)
    pace = 0.5 if sys.stderr.isatty() else 20.0  # a log file gets a line every 20 seconds
    with tqdm(total=trainer.epochs, initial=state.epoch, unit="epoch", mininterval=pace) as bar:
        for record in trainer.run(state, splits.train.images, splits.val.images):
            # told before it is saved: a run that dies in between tells it once more, and nothing is missing
            _track_epoch(tracker, record)
            if record.epoch % images_every == 1 or images_every == 1:
                _track_reconstructions(tracker, state.model, splits.val.images[:16], record.epoch)
            checkpoint.save_training(output / CHECKPOINT, state)
            if on_epoch is not None:
                on_epoch(record)
            bar.update()
            bar.set_postfix(loss=f"{record.train['loss']:.4g}", val_loss=f"{record.val['loss']:.4g}")
    _track_reconstructions(tracker, state.load_best(), splits.val.images[:16], state.epoch)
    tracker.metrics({"best/val_loss": state.best_record.val["loss"], "best/epoch": state.best_record.epoch})


def track_data(tracker: Tracker, name: str, splits: Splits) -> None:
    """Tell the tracker which images a run uses, part by part."""
    # one name for each part: MLflow takes two inputs of one name and digest for the same, and keeps one context
    for context, part in splits.parts().items():
        tracker.dataset(
            name=f"{name}-{context}",
            digest=splits.digest,
            source=splits.source,
            context=context,
            shape=tuple(part.images.shape),
        )
    tracker.params({f"n_{context}": len(part) for context, part in splits.parts().items()})


def _track_epoch(tracker: Tracker, record: Any) -> None:
    losses = {f"train/{k}": v for k, v in record.train.items()} | {f"val/{k}": v for k, v in record.val.items()}
    pace = {"train/learning_rate": record.learning_rate, "time/epoch_seconds": record.seconds}
    tracker.metrics(losses | pace, step=record.epoch, timestamp=record.time)


@torch.no_grad()
def _track_reconstructions(tracker: Tracker, model: Any, images: Tensor, epoch: int) -> None:
    was_training = model.training
    model.eval()
    x = to_float(images.to(next(model.parameters()).device))
    both = [as_pictures(x), as_pictures(model.decode(model.encode(x).mu))]
    tracker.image("reconstructions", comparison_grid(*both, scale=magnification(both[0])), step=epoch)
    model.train(was_training)


def _track_pullback(tracker: Tracker, model: Any, codes: Codes) -> None:
    """Hold the posterior variances against the decoder's pull-back metric (Sec. 4.4), at 64 codes.

    The squared error plus beta times the divergence (Eq. 3) is a Gaussian decoder of variance beta / 2.
    """
    beta = getattr(model, "beta", 0.0)
    if codes.log_var is None or not beta > 0 or getattr(model, "likelihood", "gaussian") != "gaussian":
        return
    some = slice(None, None, max(1, len(codes.mu) // 64))
    device = next(model.parameters()).device
    found = check_pullback(model.decode, Codes(codes.mu[some].to(device), codes.log_var[some].to(device)), beta / 2)
    tracker.metrics({f"geometry/{key}": value for key, value in found.scalars().items()})
    tracker.figure("figures/pullback.png", pullback_figure(found.predicted, found.observed))


def environment() -> dict[str, str]:
    """Return what a reader needs to know of the machine and the software that a run used."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("torch", "numpy", "scipy", "scikit-learn", "mlflow", "ray")}
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    machine = {"python": platform.python_version(), "platform": platform.platform(), "cores": str(os.cpu_count())}
    return machine | gpu | packages
