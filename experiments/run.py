"""One run, the whole flow: data -> model -> training -> codes -> samplers -> images -> scores -> tracker."""

import os
import platform
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from geovae import checkpoint
from geovae.codes import Codes, encode_images
from geovae.data import DATASETS, IMAGE_SHAPES, Split, Splits
from geovae.evaluation import EXTRACTORS, SCORES, FeatureCache, inception_weights_path
from geovae.evaluation.evaluate import evaluate
from geovae.evaluation.scores import reported_name
from geovae.figures.geometry import pullback_figure
from geovae.figures.grids import comparison_grid, image_grid
from geovae.figures.latent import latent_map
from geovae.geometry import check_pullback
from geovae.images import to_float, to_uint8
from geovae.models import build_model
from geovae.samplers import SAMPLERS
from geovae.tracking import NullTracker, Tracker
from geovae.training import Trainer, TrainState

Config = dict[str, Any]
CHECKPOINT, MODEL = "checkpoint.safetensors", "model.safetensors"
DEFAULT_SCORES = ("frechet", "kid", "prd", "precision_recall")


@dataclass(frozen=True)
class Result:
    """What a run leaves: its model file, and for each sampler the scores against validation and test images.

    `run_id` is the tracker's, None without one. `headline` is the name of the score, lower is better, by which choices
    are made: on validation images alone.
    """

    run_id: str | None
    model_file: Path
    headline: str
    val_scores: dict[str, dict[str, float]]
    test_scores: dict[str, dict[str, float]]

    @property
    def best_sampler(self) -> str:
        """The sampler with the lowest headline score against the validation images."""
        return min(self.val_scores, key=lambda name: self.val_scores[name][self.headline])


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
    """
    tracker = tracker or NullTracker()
    place = choose_device(device)
    plan = check(data, model, training, sampler, samplers, n_samples, extractor, scores)
    splits = DATASETS[data["name"]](**_options(data))
    _track_data(tracker, data["name"], splits)

    network: Any = build_model(model["name"], splits.image_shape, seed=seed, **_options(model)).to(place)
    state = plan.trainer.start(network, seed=seed)
    if (output / CHECKPOINT).exists():
        checkpoint.load_training(output / CHECKPOINT, state)
    train(plan.trainer, state, splits, output, tracker, images_every)
    network = state.load_best()

    codes = encode_images(network, splits.train.images)
    latents = _draw(plan.samplers, codes, n_samples, seed, tracker)
    _track_latents(tracker, codes, splits.train.labels, latents)
    _track_pullback(tracker, network, codes)
    val_scores: dict[str, dict[str, float]] = {}
    test_scores: dict[str, dict[str, float]] = {}
    cache = FeatureCache(output / "features")
    for name, z in latents.items():
        images = decode_images(network, z)
        tracker.image(f"samples/{name}", image_grid(images[:64], scale=_scale(images)), step=state.epoch)
        val_scores[name] = _score(plan, ["frechet"], images, splits.val, splits, seed, cache, place)
        tracker.metrics({f"val_score/{name}/{key}": value for key, value in val_scores[name].items()})
        if splits.test is not None:
            test_scores[name] = _score(plan, plan.scores, images, splits.test, splits, seed, cache, place)
            tracker.metrics({f"score/{name}/{key}": value for key, value in test_scores[name].items()})

    result = Result(tracker.run_id, output / MODEL, headline(plan.extractor), val_scores, test_scores)
    checkpoint.save_model(
        result.model_file,
        network,
        codes,
        name=model["name"],
        options=_options(model),
        image_shape=splits.image_shape,
        data=data,
        digest=splits.digest,
        sampler=sampler,
        best_sampler=result.best_sampler,
        headline=result.headline,
        scores=test_scores or val_scores,
        seed=seed,
    )
    tracker.tags({"best_sampler": result.best_sampler})
    tracker.metrics({f"best/{result.headline}": val_scores[result.best_sampler][result.headline]})
    tracker.artifact(result.model_file, "model")
    tracker.artifact(output / CHECKPOINT, "checkpoints")
    return result


@dataclass(frozen=True)
class Plan:
    """The parts of a run that can be built, and so checked, before any data are read."""

    trainer: Trainer
    samplers: dict[str, Any]
    extractor: str
    scores: Sequence[str]


def check(
    data: Config,
    model: Config,
    training: Config,
    sampler: Config,
    samplers: list[str] | None,
    n_samples: int,
    extractor: str,
    scores: list[str] | None,
) -> Plan:
    """Build what needs no data, so that a wrong option is refused before the first file is opened.

    Raises:
        ValueError: for any option out of its range, an unknown sampler, or a sampler that the model cannot feed.
    """
    if n_samples < 2:
        raise ValueError(f"`n_samples` must be at least 2, got {n_samples}")
    _check_known("sampler", samplers or [], SAMPLERS)
    _check_known("score", scores or [], SCORES)
    extractor = choose_extractor(extractor)
    codes = _codes_without_memory(model, IMAGE_SHAPES[data["name"]])
    fitting = {name: SAMPLERS[name](**sampler.get(name, {})) for name in samplers or SAMPLERS}
    starved = {name: what for name, one in fitting.items() if (what := _lacks(one, codes))}
    if starved and samplers:
        first, what = next(iter(starved.items()))
        raise ValueError(
            f"sampler {first!r} needs {what}, which model {model['name']!r} does not have; "
            f"choose from {', '.join(name for name, one in SAMPLERS.items() if not _lacks(one, codes))}"
        )
    fed = {name: one for name, one in fitting.items() if name not in starved}
    return Plan(Trainer(**training), fed, extractor, scores or DEFAULT_SCORES)


def choose_extractor(name: str) -> str:
    """Return the extractor that `name` stands for: `auto` is inception where its weights are found."""
    if name == "auto":
        return "random-conv-v1" if inception_weights_path() is None else "inception"
    _check_known("extractor", [name], EXTRACTORS)
    return name


def headline(extractor: str) -> str:
    """Return the name of the score by which runs are ranked: the Frechet distance of this extractor's features."""
    return reported_name("frechet", extractor)


def _check_known(kind: str, names: Sequence[str], registry: Mapping[str, Any]) -> None:
    for name in names:
        if name not in registry:
            raise ValueError(f"unknown {kind} {name!r}; choose from {', '.join(registry)}")


def choose_device(device: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` stands for here.

    Raises:
        ValueError: for another name, or `cuda` without a GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"`device` must be auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("`device` is cuda, but torch sees no GPU here; use auto or cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


@torch.no_grad()
def decode_images(model: Any, z: Tensor, batch_size: int = 500) -> Tensor:
    """Decode latents (n, d) into uint8 images (n, c, h, w) on the CPU."""
    device = next(model.parameters()).device
    return torch.cat([to_uint8(model.decode(batch.to(device)).float()).cpu() for batch in z.split(batch_size)])


def _options(section: Config) -> Config:
    return {key: value for key, value in section.items() if key != "name"}


def _codes_without_memory(model: Config, image_shape: tuple[int, int, int] | None) -> Codes:
    """Build the model without memory, which checks all its options, and see what its codes consist of."""
    with torch.device("meta"), torch.no_grad():
        shape = image_shape or (1, 32, 32)
        network: Any = build_model(model["name"], shape, **_options(model)).eval()
        mu, log_var = network.encode(torch.empty(1, *shape))
        return Codes(mu, log_var, network.latent_tensors() if hasattr(network, "latent_tensors") else {})


def _lacks(sampler: Any, codes: Codes) -> str:
    """Return what `sampler` needs and `codes` do not have, in words, or nothing."""
    if sampler.needs_log_var and codes.log_var is None:
        return "posterior variances"
    missing = [name for name in getattr(sampler, "needs", ()) if name not in codes.extras]
    return f"the model's own {missing[0].partition('.')[0]}" if missing else ""


def train(
    trainer: Trainer, state: TrainState, splits: Splits, output: Path, tracker: Tracker, images_every: int
) -> None:
    """Train from where `state` stands, with a progress bar, a checkpoint after every epoch, and all of it tracked."""
    from tqdm import tqdm

    for record in state.history:  # of a run that goes on: the same points again, or all of them in a new run
        _track_epoch(tracker, record)
    pace = 0.5 if sys.stderr.isatty() else 20.0  # a log file gets a line every 20 seconds
    with tqdm(total=trainer.epochs, initial=state.epoch, unit="epoch", mininterval=pace) as bar:
        for record in trainer.run(state, splits.train.images, splits.val.images):
            checkpoint.save_training(output / CHECKPOINT, state)
            _track_epoch(tracker, record)
            if record.epoch % images_every == 1 or images_every == 1:
                _track_reconstructions(tracker, state.model, splits.val.images[:16], record.epoch)
            bar.update()
            bar.set_postfix(loss=f"{record.train['loss']:.4g}", val_loss=f"{record.val['loss']:.4g}")
    _track_reconstructions(tracker, state.load_best(), splits.val.images[:16], state.epoch)
    tracker.metrics({"best/val_loss": state.best_record.val["loss"], "best/epoch": state.best_record.epoch})


def _draw(samplers: Mapping[str, Any], codes: Codes, n: int, seed: int, tracker: Tracker) -> dict[str, Tensor]:
    """Fit every sampler on the codes and draw `n` latents (n, d) from each."""
    latents = {}
    for name, one in samplers.items():
        started = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            latents[name], info = one.fit(codes).sample(n, Generator().manual_seed(seed), return_info=True)
        for warning in caught:  # a doubtful sampler must be visible in the tracker, not only on this terminal
            warnings.warn(f"sampler {name}: {warning.message}")
            tracker.tags({f"warning.{name}": warning.message})
        seconds = time.perf_counter() - started
        tracker.metrics({f"sampler/{name}/{k}": v for k, v in (info.scalars() | {"seconds": seconds}).items()})
    return latents


def _score(
    plan: Plan,
    scores: Sequence[str],
    images: Tensor,
    real: Split,
    splits: Splits,
    seed: int,
    cache: FeatureCache,
    device: torch.device,
) -> dict[str, float]:
    """Score `images` against one held-out part; the other held-out part says what perfect looks like."""
    other = splits.test if real is splits.val else splits.val
    report = evaluate(
        real=real.images,
        fake=images,
        train=splits.train.images,
        other_real=None if other is None else other.images,
        extractor=plan.extractor,
        scores=scores,
        seed=seed,
        device=device,
        cache=cache,
    )
    return report.values


def _track_data(tracker: Tracker, name: str, splits: Splits) -> None:
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
    tracker.image("reconstructions", comparison_grid(x, model.decode(model.encode(x).mu), scale=_scale(x)), step=epoch)
    model.train(was_training)


def _track_latents(tracker: Tracker, codes: Codes, labels: Tensor | None, latents: Mapping[str, Tensor]) -> None:
    some = slice(None, None, max(1, len(codes.mu) // 2000))
    labels = None if labels is None else labels[some]
    tracker.figure("figures/latent_map.png", latent_map(codes.mu[some], labels=labels, samples=dict(latents)))


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


def _scale(images: Tensor) -> int:
    """Return the factor that makes one image about 64 pixels high."""
    return max(1, round(64 / images.shape[2]))


def environment() -> dict[str, str]:
    """Return what a reader needs to know of the machine and the software that a run used."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("torch", "numpy", "scipy", "scikit-learn", "mlflow", "ray")}
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    machine = {"python": platform.python_version(), "platform": platform.platform(), "cores": str(os.cpu_count())}
    return machine | gpu | packages
