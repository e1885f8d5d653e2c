"""One run, the whole flow: data -> model -> training -> codes -> samplers -> images -> scores -> tracker."""

import copy
import functools
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.config import Config, Options, check_label, rename, resolve
from experiments.describe import track_data
from experiments.extractor import resolve_extractor
from experiments.judge import Judge, Result, plan_judge
from experiments.planes import directions_of, plane_grid
from experiments.yaml_file import ConfigError, read_yaml
from geovae import checkpoint
from geovae.codes import Codes, encode_images
from geovae.data import DATASETS, Splits
from geovae.devices import choose_device, fixed_convolutions
from geovae.figures.directions import Directions
from geovae.figures.latent import pullback_figure
from geovae.files import remove_partial
from geovae.geometry import check_pullback
from geovae.images import as_pictures, to_float, to_uint8
from geovae.models import build_model
from geovae.saved_model import SavedModel
from geovae.tracking import NullTracker, Tracker
from geovae.training import EpochRecord, Trainer, TrainingSummary, TrainState

CHECKPOINT = "checkpoint.safetensors"
OnEpoch = Callable[[EpochRecord], None]


@dataclass(frozen=True)
class Plan:
    """A run that can start, once: its complete configuration, and its parts.

    `network` is untrained and on the CPU. `splits` are loaded here only where the network's shape depends on them.
    """

    config: Config
    trainer: Trainer
    network: Any
    judge: Judge
    splits: Splits | None = None


def plan_run(config: Config) -> Plan:
    """Build the parts of a run, so that wrong options are refused before anything is written.

    Raises:
        ValueError: for any option out of its range, or a sampler that the model cannot feed.
    """
    config = config | {"extractor": resolve_extractor(config["extractor"], config["data"])}  # the data may have come
    splits, shape = None, DATASETS[config["data"]["name"]].image_shape
    if shape is None:
        splits = load_data(config["data"])
        shape = splits.image_shape
    network = build_model(config["model"]["name"], shape, seed=config["seed"], **_options(config["model"]))
    judge = plan_judge(config, _untrained_codes(network, shape))
    return Plan(judge.config, Trainer(**config["training"]), network, judge, splits)


def load_plan(plan: Plan, resumed: Path | None = None) -> Plan:
    """Return a plan with its data loaded, after every check that needs no training.

    Raises:
        FileNotFoundError: if the data are not here.
        ValueError: if they are damaged, or too few for a batch or a sampler; or if the folder `resumed` holds the
            checkpoint of another architecture.
    """
    config, network = plan.config, plan.network
    splits = plan.splits or load_data(config["data"])
    plan.trainer.require(len(splits.train))
    plan.judge.require(splits)
    if DATASETS[config["data"]["name"]].image_shape not in (None, splits.image_shape):  # brains of another size
        name, options = config["model"]["name"], _options(config["model"])
        network = build_model(name, splits.image_shape, seed=config["seed"], **options)
    if resumed is not None:
        fresh = copy.deepcopy(network).to(choose_device(config["device"]))
        checkpoint.load_training(resumed / CHECKPOINT, plan.trainer.start(fresh))
    return replace(plan, splits=splits, network=network)


def run(plan: Plan, *, output: Path, tracker: Tracker | None = None, on_epoch: OnEpoch | None = None) -> Result:
    """Train a model, draw images with every sampler, score and track them.

    A run whose `output` holds a checkpoint resumes from it, bit for bit; on a GPU only if `training.deterministic`.

    Args:
        plan: of the configuration, see `plan_run`.
        output: folder for the checkpoint and the model file, of this run alone.
        tracker: where to report; by default nowhere.
        on_epoch: called after each epoch, when its checkpoint is on disk; an exception from it ends the run.
    """
    plan = load_plan(plan)
    tracker, config, network, splits = tracker or NullTracker(), plan.config, plan.network, plan.splits
    assert splits is not None
    remove_partial(output)
    track_data(tracker, config["data"]["name"], splits)

    state = plan.trainer.start(network.to(choose_device(config["device"])), seed=config["seed"])
    tracker.tags({"precision_used": plan.trainer.arithmetic(network).precision})
    if (output / CHECKPOINT).exists():
        checkpoint.load_training(output / CHECKPOINT, state)
    train(plan, state, splits, output, tracker, on_epoch)
    summary = plan.trainer.summarize(state)
    if summary.undertrained:
        warnings.warn(f"undertrained: {summary}")
    with fixed_convolutions(config["training"]["deterministic"]):  # a resumed run decodes and scores the same images
        result = judge_trained(plan.judge, state.load_best(), splits, output, tracker, summary)
    if keeps_checkpoint(config["keep_checkpoint"], output / CHECKPOINT, result.model_file):
        tracker.artifact(output / CHECKPOINT, "checkpoints")
    return result


def keeps_checkpoint(wanted: bool | None, checkpoint_file: Path, model_file: Path) -> bool:
    """Return whether the checkpoint is uploaded: as `wanted`, by default where it is not larger than the model file."""
    return checkpoint_file.stat().st_size <= model_file.stat().st_size if wanted is None else wanted


def judge_trained(
    judge: Judge, network: Any, splits: Splits, output: Path, tracker: Tracker, summary: TrainingSummary | None = None
) -> Result:
    """Encode the training images, compare the codes with the decoder's metric, and draw and score.

    `summary` says how the training ended; the model file keeps it.
    """
    config = judge.config
    held_out = encode_images(network, splits.val.images).mu
    codes = encode_images(network, splits.train.images)
    codes = replace(codes, held_out=held_out, labels=splits.train.labels, held_out_labels=splits.val.labels)
    _track_pullback(tracker, network, codes)
    meta = {
        "model": config["model"]["name"],
        "options": _options(config["model"]),
        "image_shape": splits.image_shape,
        "data": config["data"],
        "digest": splits.digest,
        "seed": config["seed"],
    } | ({"training": asdict(summary)} if summary else {})
    if directions := directions_of(config["data"], splits.image_shape):
        meta["directions"] = asdict(directions)
    return judge(SavedModel(network, codes, meta), splits, output, tracker)


def check_config(config: Config) -> Config:
    """Return the configuration complete and checked, for a run in another process; no weights are made.

    Raises:
        ValueError: as `plan_run`.
    """
    codes = _codes_of(json.dumps(config["model"]), _image_shape(json.dumps(config["data"])))
    return plan_judge(config, codes).config


def check_data(configs: Iterable[Config]) -> None:
    """Load every data set once, and check each configuration against it: now, not after hours.

    Raises:
        FileNotFoundError: if data are not here.
        ValueError: if they are damaged, or too few.
    """
    groups: dict[str, list[Config]] = {}
    for config in configs:
        groups.setdefault(json.dumps(config["data"], sort_keys=True), []).append(config)
    for data, group in groups.items():
        splits = load_data(json.loads(data))
        for config in group:
            Trainer(**config["training"]).require(len(splits.train))
            codes = _codes_of(json.dumps(config["model"]), _image_shape(json.dumps(config["data"])))
            plan_judge(config, codes).require(splits)


def read_comparison(path: Path, options: Options, prog: str) -> dict[str, Config]:
    """Return the checked configuration of each run of a comparison file; `options` apply to all of them.

    Raises:
        ConfigError: if the file or any of its runs is not valid.
    """
    content = read_yaml(path)
    runs = content.get("runs")
    if not runs or not isinstance(runs, dict) or content.keys() - {"dataset", "runs"}:
        raise ConfigError(f"{path} must hold `dataset: NAME` and `runs: {{name: options}}`")
    dataset = {"data.name": content["dataset"]} if "dataset" in content else {}
    configs = {}
    for name, changes in runs.items():
        check_label(name, str(path))
        if not isinstance(changes, dict | None):
            raise ConfigError(f"run {name!r} of {path} must hold a mapping of options, got {changes!r}")
        try:
            configs[name] = check_config(resolve(dataset | rename(changes or {}) | options, prog=prog))
        except ValueError as error:
            raise ConfigError(f"run {name!r}: {error}") from error
    return configs


@functools.cache
def _codes_of(model: str, shape: tuple[int, int, int]) -> Codes:
    """Return codes of the kind that a model gives; building it, without memory, checks all its options."""
    name, options = (config := json.loads(model))["name"], _options(config)
    with torch.device("meta"):
        build_model(name, shape, **options)
    # encoding on the meta device would import torch._dynamo (seconds); a narrow network has codes of the same kind
    narrow = {**options, "width": 1} if "width" in options else options
    return _untrained_codes(build_model(name, shape, **narrow), shape)


@functools.cache
def _image_shape(data: str) -> tuple[int, int, int]:
    config = json.loads(data)
    return DATASETS[config["name"]].image_shape or load_data(config).image_shape


@torch.no_grad()
def _untrained_codes(network: Any, shape: tuple[int, int, int]) -> Codes:
    """Return the codes (1, d) of a black image, to see what the model's codes consist of."""
    codes = network.eval().encode(torch.zeros(1, *shape))
    network.train()
    return Codes(codes.mu, codes.log_var, network.latent_tensors() if hasattr(network, "latent_tensors") else {})


def load_data(data: Config) -> Splits:
    """Load the data set `data["name"]` with the other options."""
    return DATASETS[data["name"]](**_options(data))


def _options(section: Config) -> Config:
    return {key: value for key, value in section.items() if key != "name"}


def train(
    plan: Plan, state: TrainState, splits: Splits, output: Path, tracker: Tracker, on_epoch: OnEpoch | None = None
) -> None:
    """Train from where `state` stands, with a progress bar and a checkpoint after every epoch; all is tracked."""
    from tqdm import tqdm

    images_every, directions = plan.config["images_every"], directions_of(plan.config["data"], splits.image_shape)
    for record in state.history:  # of a resumed run: the same points again, or all of them in a new run
        _track_epoch(tracker, record)
    interval = 0.5 if sys.stderr.isatty() else 20.0  # a log file gets a line every 20 seconds
    # not tqdm's own TQDM_DISABLE: it is read as tqdm is imported, which torch does
    bars = {"mininterval": interval, "disable": os.environ.get("GEOVAE_QUIET") == "1"}
    with tqdm(total=plan.trainer.epochs, initial=state.epoch, unit="epoch", **bars) as bar:
        for record in plan.trainer.run(state, splits.train.images, splits.val.images):
            # tracked before the checkpoint: after a crash in between it is tracked twice, and nothing is missing
            _track_epoch(tracker, record)
            if record.epoch % images_every == 1 or images_every == 1:
                track_reconstructions(tracker, state.model, splits.val.images[:16], record.epoch, directions)
            checkpoint.save_training(output / CHECKPOINT, state)
            if on_epoch is not None:
                on_epoch(record)
            bar.update()
            losses = {"loss": f"{record.train['loss']:.4g}", "val_loss": f"{record.val['loss']:.4g}"}
            bar.set_postfix(losses | {"images/s": f"{len(splits.train.images) / record.seconds:.0f}"})
    track_reconstructions(tracker, state.load_best(), splits.val.images[:16], state.epoch, directions)
    tracker.metrics({"best/val_loss": state.best_record.val["loss"], "best/epoch": state.best_record.epoch})


def _track_epoch(tracker: Tracker, record: Any) -> None:
    losses = {f"train/{k}": v for k, v in record.train.items()} | {f"val/{k}": v for k, v in record.val.items()}
    speed = {"train/learning_rate": record.learning_rate, "time/epoch_seconds": record.seconds}
    tracker.metrics(losses | speed, step=record.epoch, timestamp=record.time)


@torch.no_grad()
def track_reconstructions(
    tracker: Tracker, model: Any, images: Tensor, epoch: int, directions: Directions | None
) -> None:
    """Track a picture of images (n, c, h, w) above what the model makes of them."""
    was_training = model.training
    model.eval()
    height, width = as_pictures(images[:1]).shape[2:]
    images = images[: max(1, len(images) * height // max(height, width))]  # the planes of a volume are wide: fewer
    x = to_float(images.to(next(model.parameters()).device))
    both = [as_pictures(x), as_pictures(model.decode(model.encode(x).mu))]
    pictures = torch.cat([to_uint8(pictures).cpu() for pictures in both])
    tracker.image("reconstructions", plane_grid(pictures, directions, columns=len(images)), step=epoch)
    model.train(was_training)


def _track_pullback(tracker: Tracker, model: Any, codes: Codes) -> None:
    """Compare the posterior variances with the decoder's pull-back metric (Sec. 4.4), at 64 codes.

    The squared error plus beta times the divergence (Eq. 3) is a Gaussian decoder of variance beta / 2.
    """
    beta = getattr(model, "beta", 0.0)
    if codes.log_var is None or not beta > 0 or getattr(model, "likelihood", "gaussian") != "gaussian":
        return
    subset = slice(None, None, max(1, len(codes.mu) // 64))
    device = next(model.parameters()).device
    pullback = check_pullback(
        model.decode, Codes(codes.mu[subset].to(device), codes.log_var[subset].to(device)), beta / 2
    )
    tracker.metrics({f"geometry/{key}": value for key, value in pullback.scalars().items()})
    tracker.figure("figures/pullback.png", pullback_figure(pullback.predicted, pullback.observed))
