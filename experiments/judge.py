"""What follows training: codes -> samplers -> images -> scores; once after a run, or again on a trained model."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from geovae.codes import Codes
from geovae.data import DATASETS, Split, Splits
from geovae.evaluation import EXTRACTORS, SCORES, FeatureCache, checked_weights, inception_weights_path
from geovae.evaluation.evaluate import evaluate
from geovae.evaluation.scores import reported_name
from geovae.figures.latent import latent_map
from geovae.images import as_pictures, image_grid, to_uint8
from geovae.samplers import SAMPLERS
from geovae.saved_model import SavedModel, load_model, save_model
from geovae.tracking import NullTracker, Tracker

Config = dict[str, Any]
MODEL = "model.safetensors"
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


@dataclass(frozen=True)
class Judge:
    """Draws images from a trained model with every sampler and scores them; built before any data are read.

    `options` are the samplers' options as configured, `samplers` what they built.
    """

    samplers: dict[str, Any]
    options: Config
    n_samples: int
    extractor: str
    scores: Sequence[str]
    seed: int

    def __call__(self, saved: SavedModel, splits: Splits, output: Path, tracker: Tracker, keep: bool = True) -> Result:
        """Draw, score, tell the tracker, and write the model file with what was found into `output`.

        Args:
            saved: the model, its training codes, and its header (`model`, `options`, `image_shape`, `data`, `digest`).
            splits: the data that it was trained on.
            output: folder for the model file and the cached features.
            tracker: where to report.
            keep: whether to write a model file.
        """
        splits = _pictures(splits)
        latents = self._draw(saved.codes, tracker)
        _track_latents(tracker, saved.codes, splits.train.labels, latents)
        device = next(saved.model.parameters()).device
        cache = FeatureCache(output / "features")
        found: dict[str, dict[str, dict[str, float]]] = {"val_score": {}, "score": {}}
        for name, z in latents.items():
            images = as_pictures(decode_images(saved.model, z))
            tracker.image(f"samples/{name}", image_grid(images[:64], scale=magnification(images)))
            for kind, part, scores in (("val_score", splits.val, ["frechet"]), ("score", splits.test, self.scores)):
                if part is not None:
                    found[kind][name] = self._score(scores, images, part, splits, cache, device)
                    tracker.metrics({f"{kind}/{name}/{key}": value for key, value in found[kind][name].items()})
        result = Result(tracker.run_id, output / MODEL, headline(self.extractor), found["val_score"], found["score"])
        _track_best(result, tracker)
        if keep:
            self._keep(result, saved, tracker)
        return result

    def require(self, n: int) -> None:
        """Raise a ValueError if `n` training images give too few codes for a sampler."""
        for name, one in self.samplers.items():
            if n < one.least_codes:
                raise ValueError(
                    f"sampler {name!r} needs {one.least_codes} codes, there are {n} training images; "
                    f"see its options sampler.{name}"
                )

    def _draw(self, codes: Codes, tracker: Tracker) -> dict[str, Tensor]:
        """Fit every sampler on the codes and draw latents (n, d) from each."""
        latents = {}
        for name, one in self.samplers.items():
            started = time.perf_counter()
            generator = Generator().manual_seed(self.seed)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                latents[name], info = one.fit(codes).sample(self.n_samples, generator, return_info=True)
            for warning in caught:  # a doubtful sampler must be visible in the tracker, not only on this terminal
                warnings.warn(f"sampler {name}: {warning.message}")
                tracker.tags({f"warning.{name}": warning.message})
            seconds = time.perf_counter() - started
            tracker.metrics({f"sampler/{name}/{k}": v for k, v in (info.scalars() | {"seconds": seconds}).items()})
        return latents

    def _score(
        self,
        scores: Sequence[str],
        images: Tensor,
        real: Split,
        splits: Splits,
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
            extractor=self.extractor,
            scores=scores,
            seed=self.seed,
            device=device,
            cache=cache,
        )
        return report.values

    def _keep(self, result: Result, saved: SavedModel, tracker: Tracker) -> None:
        """Write the model file with its scores."""
        meta = saved.meta | {
            "sampler": self.options,
            "best_sampler": result.best_sampler,
            "headline": result.headline,
            "scores": result.test_scores or result.val_scores,
        }
        own = {key: meta.pop(key) for key in ("model", "options")}
        save_model(
            result.model_file,
            saved.model,
            saved.codes,
            name=own["model"],
            options=own["options"],
            labels=saved.labels,
            **meta,
        )
        tracker.artifact(result.model_file, "model")


def _in_words(result: Result) -> str:
    """Return the run's description: what each sampler scored, the best first."""
    head = result.headline
    order = sorted(result.val_scores, key=lambda name: result.val_scores[name][head])
    rows = [
        f"- **{name}**: {head} {result.val_scores[name][head]:.4g} on validation images"
        + (f", {result.test_scores[name][head]:.4g} on test images" if head in result.test_scores.get(name, {}) else "")
        for name in order
    ]
    return "Samplers, the best first (lower is better):\n\n" + "\n".join(rows)


def plan_judge(
    codes: Codes,
    model: str,
    *,
    sampler: Config,
    samplers: list[str] | None = None,
    n_samples: int = 500,
    extractor: str = "auto",
    scores: list[str] | None = None,
    seed: int = 0,
) -> Judge:
    """Build the samplers that `codes` (of a `model`) can feed, and check everything else.

    Raises:
        ValueError: for an option out of its range, an unknown name, or a sampler that the codes cannot feed.
    """
    if n_samples < 2:
        raise ValueError(f"`n_samples` must be at least 2, got {n_samples}")
    check_known("sampler", [*(samplers or []), *sampler], SAMPLERS)
    check_known("score", scores or [], SCORES)
    built = {name: SAMPLERS[name](**sampler.get(name, {})) for name in samplers or SAMPLERS}
    starved = {name: what for name, one in built.items() if (what := _lacks(one, codes))}
    if starved and samplers:
        first, what = next(iter(starved.items()))
        raise ValueError(
            f"sampler {first!r} needs {what}, which model {model!r} does not have; "
            f"choose from {', '.join(name for name, one in SAMPLERS.items() if not _lacks(one, codes))}"
        )
    fed = {name: one for name, one in built.items() if name not in starved}
    return Judge(fed, sampler, n_samples, choose_extractor(extractor), scores or DEFAULT_SCORES, seed)


def rejudge(
    model_file: Path,
    *,
    sampler: Config,
    output: Path,
    samplers: list[str] | None = None,
    n_samples: int = 500,
    extractor: str = "auto",
    scores: list[str] | None = None,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    tracker: Tracker | None = None,
    keep: bool = True,
) -> Result:
    """Draw from a trained model again, with other samplers or options: no training; the arguments are those of `run`.

    With `keep` a model file with the new options and scores is written into `output`.

    Raises:
        ValueError: if the data set found here is not the one that the model was trained on.
    """
    saved = load_model(model_file, choose_device(device))
    judge = plan_judge(
        saved.codes,
        saved.meta["model"],
        sampler=sampler,
        samplers=samplers,
        n_samples=n_samples,
        extractor=extractor,
        scores=scores,
        seed=seed,
    )
    return judge(saved, load_data_of(saved), output, tracker or NullTracker(), keep=keep)


def load_data_of(saved: SavedModel) -> Splits:
    """Load the data set that a model file names.

    Raises:
        ValueError: if what is found here is not what the model was trained on.
    """
    options = dict(saved.meta["data"])
    name = options.pop("name")
    splits = DATASETS[name](**options)
    if splits.digest != saved.meta["digest"]:
        raise ValueError(
            f"the data set {name!r} found here is not the one that the model was trained on: "
            f"digest {splits.digest}, expected {saved.meta['digest']}"
        )
    return splits


def choose_extractor(name: str) -> str:
    """Return the extractor that `name` stands for: `auto` is inception where its weights are found.

    Raises:
        FileNotFoundError: for inception without its weights.
        ValueError: for an unknown name, one that needs more than a name, or weights that are not the published ones.
    """
    if name == "auto":
        name = "random-conv-v1" if inception_weights_path() is None else "inception"
    check_known("extractor", [name], EXTRACTORS)
    if name == "module":
        raise ValueError("the extractor 'module' needs to know which: `-e evaluate` takes --module package:Class")
    if name == "inception":
        checked_weights()  # now, not after hours of training
    return name


def headline(extractor: str) -> str:
    """Return the name of the score by which runs are ranked: the Frechet distance of this extractor's features."""
    return reported_name("frechet", extractor)


def check_known(kind: str, names: Sequence[str], registry: Mapping[str, Any]) -> None:
    """Raise a ValueError for a name that is not in the registry."""
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
    """Decode latents (n, d), of any precision, into uint8 images (n, c, h, w) on the CPU."""
    like = next(model.parameters())
    return torch.cat([to_uint8(model.decode(batch.to(like)).float()).cpu() for batch in z.split(batch_size)])


def magnification(images: Tensor) -> int:
    """Return the factor that makes one image about 64 pixels high."""
    return max(1, round(64 / images.shape[2]))


def _pictures(splits: Splits) -> Splits:
    """Return the splits as they are shown and scored: volumes by their middle planes."""
    parts = {name: Split(as_pictures(part.images), part.labels) for name, part in splits.parts().items()}
    return Splits(parts["train"], parts["val"], parts.get("test"), splits.source)


def _lacks(sampler: Any, codes: Codes) -> str:
    """Return what `sampler` needs and `codes` do not have, in words, or nothing."""
    if sampler.needs_log_var and codes.log_var is None:
        return "posterior variances"
    missing = [name for name in sampler.needs if name not in codes.extras]
    return f"the model's own {missing[0].partition('.')[0]}" if missing else ""


def _track_best(result: Result, tracker: Tracker) -> None:
    best = result.best_sampler
    tracker.tags({"best_sampler": best, "headline": result.headline, "mlflow.note.content": _in_words(result)})
    tracker.metrics({f"best/{result.headline}": result.val_scores[best][result.headline]})
    tracker.metrics({f"score/{key}": value for key, value in result.test_scores.get(best, {}).items()})


def _track_latents(tracker: Tracker, codes: Codes, labels: Tensor | None, latents: Mapping[str, Tensor]) -> None:
    some = slice(None, None, max(1, len(codes.mu) // 2000))
    labels = None if labels is None else labels[some]
    tracker.figure("figures/latent_map.png", latent_map(codes.mu[some], labels=labels, samples=dict(latents)))
