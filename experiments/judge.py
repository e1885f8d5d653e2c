"""After training: codes -> samplers -> images -> scores; once at the end of a run, or again on a trained model."""

import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Generator, Tensor

from experiments.config import Config
from experiments.extractor import load_extractor
from experiments.planes import directions_of_model, plane_grid
from geovae.codes import Codes
from geovae.data import Split, Splits
from geovae.devices import choose_device
from geovae.evaluation import FeatureCache, ImageSets, Latents, Scorer, copies, evaluate, headline, least_rows
from geovae.figures.latent import latent_map
from geovae.files import check_memory
from geovae.images import as_pictures
from geovae.samplers import SAMPLERS, Sampler
from geovae.samplers.volume import SlowerWarning
from geovae.saved_model import SavedModel, load_model, save_model
from geovae.tracking import NullTracker, Tracker
from geovae.training import TrainingSummary

MODEL = "model.safetensors"


@dataclass(frozen=True)
class Result:
    """What a run leaves: its model file, and for each sampler the scores against validation and test images.

    `run_id` is the tracker's, None without one. `headline` is the name of the score, lower is better, by which choices
    are made: on validation images alone. `training` says how the model's training ended, where its file knows.
    """

    run_id: str | None
    model_file: Path
    headline: str
    val_scores: dict[str, dict[str, float]]
    test_scores: dict[str, dict[str, float]]
    training: TrainingSummary | None = None

    @property
    def undertrained(self) -> bool:
        """Whether the model is known to be undertrained."""
        return self.training is not None and self.training.undertrained

    @property
    def best_sampler(self) -> str:
        """The first of `ranked_samplers`."""
        return self.ranked_samplers[0]

    @property
    def ranked_samplers(self) -> list[str]:
        """The samplers by their headline score against the validation images, those that copy last."""

        def key(name: str) -> tuple[bool, float]:
            return copies(self.val_scores[name]), self.val_scores[name][self.headline]

        return sorted(self.val_scores, key=key)


@dataclass(frozen=True)
class Judge:
    """Draws images from a trained model with every sampler and scores them.

    `config` is a resolved configuration; its `samplers` names those built here.
    """

    config: Config
    samplers: Mapping[str, Sampler]

    def __call__(self, saved: SavedModel, splits: Splits, output: Path, tracker: Tracker, keep: bool = True) -> Result:
        """Draw, score, track, and write the model file with the scores, unless `keep` is False, into `output`.

        `saved` has a header of `model`, `options`, `image_shape`, `data` and `digest`; `splits` are its training data.
        """
        device = next(saved.model.parameters()).device
        tracker.tags({"device_used": device.type})
        latents = self._draw(saved.codes.to(device), tracker)
        _track_latents(tracker, saved.codes, splits.train.labels, latents)
        cache = FeatureCache(output / "features")  # the real images are the same for every sampler
        settings = {"seed": self.config["seed"], "device": device, "cache": cache}
        # choices are made by the headline score alone, so validation images get no other
        chosen = {"val_score": ["frechet"], "score": self.config["scores"]}
        extractor = load_extractor(self.config["extractor"], self.config["data"])
        scorers = {kind: Scorer(extractor, scores, **settings) for kind, scores in chosen.items()}
        tracker.tags({"extractor_id": ", ".join(str(network.id) for network in scorers["score"].networks)})
        scored = score_samples(saved, latents, splits, scorers, tracker)
        first = headline(self.config["extractor"])
        training = TrainingSummary(**saved.meta["training"]) if "training" in saved.meta else None
        result = Result(tracker.run_id, output / MODEL, first, scored["val_score"], scored["score"], training)
        _track_best(result, saved, tracker)
        if keep:
            self._keep(result, saved, tracker)
        return result

    def require(self, splits: Splits) -> None:
        """Raise a ValueError if the images are too few for a sampler or a score."""
        n, drawn = len(splits.train), self.config["n_samples"]
        check_memory(f"`n_samples` must be smaller: {drawn} images have", drawn * math.prod(splits.image_shape))
        for part, scores in (("val", ["frechet"]), ("test", self.config["scores"])):
            images = splits.parts().get(part)
            needed = least_rows(scores)
            if images is not None and min(len(images), drawn) < needed:
                raise ValueError(
                    f"the scores {', '.join(scores)} need {needed} images, the {part} split has {len(images)} and "
                    f"`n_samples` is {drawn}: use more, or other `scores`"
                )
        for name, sampler in self.samplers.items():
            if n < sampler.least_codes:
                raise ValueError(
                    f"sampler {name!r} needs {sampler.least_codes} codes, there are {n} training images; "
                    f"see its options sampler.{name}"
                )

    def _draw(self, codes: Codes, tracker: Tracker) -> dict[str, Tensor]:
        """Fit every sampler on the codes, where they are, and draw latents (n, d) from each, on the CPU."""
        latents = {}
        for name, sampler in self.samplers.items():
            started = time.perf_counter()
            generator = Generator().manual_seed(self.config["seed"])  # no sampler's draw depends on the others
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                n = self.config["n_samples"]
                z, info = sampler.fit(codes).sample(n, generator, return_info=True)
            texts = {str(warning.message): warning.category for warning in caught}
            for text in texts:
                warnings.warn(f"sampler {name}: {text}")
            # a doubtful sampler must be visible in the tracker, not only on this terminal
            if doubts := [text for text, category in texts.items() if not issubclass(category, SlowerWarning)]:
                tracker.tags({f"warning.{name}": "; ".join(doubts)})
            latents[name] = z.cpu()
            seconds = time.perf_counter() - started
            tracker.metrics({f"sampler/{name}/{k}": v for k, v in (info.scalars() | {"seconds": seconds}).items()})
        return latents

    def _keep(self, result: Result, saved: SavedModel, tracker: Tracker) -> None:
        """Write the model file with its scores."""
        meta = saved.meta | {
            "sampler": self.config["sampler"],
            "best_sampler": result.best_sampler,
            "headline": result.headline,
            "scores": result.test_scores or result.val_scores,
        }
        name, options = meta.pop("model"), meta.pop("options")
        save_model(result.model_file, saved.model, saved.codes, name=name, options=options, **meta)
        tracker.artifact(result.model_file, "model")


def plan_judge(config: Config, codes: Codes) -> Judge:
    """Build the samplers that `codes` can feed: all of them, or those that `config["samplers"]` names.

    Raises:
        ValueError: for a sampler that the codes cannot feed.
    """
    built = {name: SAMPLERS[name](**config["sampler"].get(name, {})) for name in SAMPLERS}
    lacking = {name: needed for name, sampler in built.items() if (needed := _lacks(sampler, codes))}
    fed = [name for name in built if name not in lacking]
    names = config["samplers"] or fed
    for name in names:
        if name in lacking:
            raise ValueError(
                f"sampler {name!r} needs {lacking[name]}, which model {config['model']['name']!r} does not have; "
                f"choose from {', '.join(fed)}"
            )
    return Judge({**config, "samplers": list(names)}, {name: built[name] for name in names})


def rejudge(
    model_file: Path, config: Config, *, output: Path, tracker: Tracker | None = None, keep: bool = True
) -> Result:
    """Judge a trained model again, with the samplers and scores of another resolved configuration.

    With `keep` a model file with the new options and scores is written into `output`.

    Raises:
        ValueError: if the data set found here is not the one that the model was trained on.
    """
    saved = load_model(model_file, choose_device(config["device"]))
    return plan_judge(config, saved.codes)(saved, saved.splits(), output, tracker or NullTracker(), keep=keep)


def _lacks(sampler: Sampler, codes: Codes) -> str:
    """Return what `sampler` needs and `codes` do not have, in words, or an empty text."""
    if sampler.needs_log_var and codes.log_var is None:
        return "posterior variances"
    missing = [name for name in sampler.needs if name not in codes.extras]
    return f"the model's own {missing[0].partition('.')[0]}" if missing else ""


def _track_best(result: Result, saved: SavedModel, tracker: Tracker) -> None:
    if result.training is not None:  # as a number too: reports of studies read metrics alone
        tracker.metrics({"best/undertrained": float(result.undertrained)})
    if result.undertrained:
        tracker.tags({"undertrained": str(result.training)})
    best = result.best_sampler
    tracker.tags({"best_sampler": best, "headline": result.headline, "mlflow.note.content": _in_words(result)})
    tracker.metrics({f"best/{result.headline}": result.val_scores[best][result.headline]})
    test = {f"score/{key}": value for key, value in result.test_scores.get(best, {}).items()}
    tracker.metrics(test)
    # the page of models shows them in this order; what real images score is the same for all
    own = [f"score/{result.headline}", *(key for key in test if not key.startswith("score/real_"))]
    scores = dict.fromkeys(own, "test") | dict.fromkeys((f"best/{result.headline}", "best/val_loss"), "val")
    tracker.model(f"{saved.meta['model']}-{saved.meta['data']['name']}", scores)


def _in_words(result: Result) -> str:
    """Return the run's description: what each sampler scored, the best first."""
    head, rows = result.headline, []
    for name in result.ranked_samplers:
        val, test = result.val_scores[name], result.test_scores.get(name, {})
        on_test = f", {test[head]:.4g} on test images" if head in test else ""
        mark = " (copies)" if copies(val) else ""
        rows.append(f"- **{name}**{mark}: {head} {val[head]:.4g} on validation images{on_test}")
    warning = f"**Undertrained**: {result.training}.\n\n" if result.undertrained else ""
    return f"{warning}Samplers, the best first (lower is better):\n\n" + "\n".join(rows)


def _track_latents(tracker: Tracker, codes: Codes, labels: Tensor | None, latents: Mapping[str, Tensor]) -> None:
    shown = slice(None, None, max(1, len(codes.mu) // 2000))  # the figure stays readable, and small
    labels = None if labels is None else labels[shown]
    tracker.figure("figures/latent_map.png", latent_map(codes.mu[shown], labels=labels, samples=dict(latents)))


class HeldOut(NamedTuple):
    """One held-out part as it is scored: pictures (n, c, h, w), codes (n, d), and pictures of the decoded codes."""

    images: Tensor
    codes: Tensor
    decoded: Tensor


def _held_out(saved: SavedModel, part: Split | None) -> HeldOut | None:
    if part is None:
        return None
    codes = saved.encode(part.images).mu
    return HeldOut(as_pictures(part.images), codes, as_pictures(saved.decode(codes)))


def score_samples(
    saved: SavedModel,
    latents: Mapping[str, Tensor],
    splits: Splits,
    scorers: Mapping[str, Scorer],
    tracker: Tracker,
) -> dict[str, dict[str, dict[str, float]]]:
    """Decode and score each sampler's latents against both held-out parts; return {kind: {sampler: {score: value}}}."""
    scored: dict[str, dict[str, dict[str, float]]] = {kind: {} for kind in scorers}
    notes: dict[str, list[str]] = {}  # each with the samplers that it is about
    train, val, test = as_pictures(splits.train.images), _held_out(saved, splits.val), _held_out(saved, splits.test)
    held_out = {"val_score": (val, test), "score": (test, val)}
    for name, z in latents.items():
        images = as_pictures(saved.decode(z))
        tracker.image(f"samples/{name}", plane_grid(images[:64], directions_of_model(saved.meta)))
        for kind, (real, other) in held_out.items():
            if real is not None:
                sets = _image_sets(train, images, real, other, Latents(saved.codes.mu, z, real.codes))
                report = evaluate(sets, scorers[kind])
                scored[kind][name] = report.values
                for note in report.notes:
                    notes.setdefault(note, []).append(name)
                tracker.metrics({f"{kind}/{name}/{key}": value for key, value in report.values.items()})
    if notes:
        texts = [note if set(about) == set(latents) else f"{', '.join(about)}: {note}" for note, about in notes.items()]
        tracker.tags({"warning.scores": "; ".join(texts)})
    return scored


def _image_sets(train: Tensor, fake: Tensor, real: HeldOut, other: HeldOut | None, latents: Latents) -> ImageSets:
    """Return samples, real images and the rows beside them: other real images, and decoded codes of those.

    Few others (a fifth of a subsample) say less than the halves of `real`.
    """
    if other is None or 2 * len(other.images) < len(real.images):
        return ImageSets(real.images, fake, train, decoded=real.decoded, latents=latents)
    return ImageSets(real.images, fake, train, other_real=other.images, decoded=other.decoded, latents=latents)
