"""`mlflow run . -e evaluate`: score a model's samples against its data set's test images, or two sets of images."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Generator, nn

from experiments.extractor import load_extractor, resolve_extractor
from geovae.checks import check_count, check_seed
from geovae.devices import choose_device
from geovae.evaluation import (
    FeatureCache,
    ImageSets,
    Latents,
    Report,
    Scorer,
    choose_extractor,
    differences,
    evaluate,
    headline,
    is_weak,
)
from geovae.evaluation import extractor as build_extractor
from geovae.evaluation.folders import read_labels
from geovae.figures.evaluation import neighbour_figure, prd_figure
from geovae.images.pictures import match_channels, read_images
from geovae.saved_model import SavedModel, load_model
from geovae.tracking import MlflowTracker
from mlflow_projects import entry
from mlflow_projects.generate import check_drawn
from mlflow_projects.registry.versions import fetch_model

SHOWN = 8


@dataclass(frozen=True)
class Features:
    """Whose features are scored.

    Args:
        extractor: auto (a classifier of the model's data set where there is one, else inception where its weights are,
            else random-conv-v1), inception, mnist-net-v1, fashion-mnist-net-v1, random-conv-v1, pixels, or module.
        inception_weights: file of Inception's weights, if they lie elsewhere than in torch's cache.
        module: package:Class of the extractor `module`.
        module_state: file of its state dict.
        device: where the extractor runs: cpu, cuda or auto.
        batch_size: images at once.
    """

    extractor: str = "auto"
    inception_weights: str = ""
    module: str = ""
    module_state: str = ""
    device: str = "auto"
    batch_size: int = 50

    def choose(self, data: Mapping[str, Any] | None = None) -> str | nn.Module:
        """Return the extractor, or the name of a shipped one, for the data set of a configuration `data`.

        Raises:
            ValueError: for an unknown extractor or device, or a batch size below 1.
            FileNotFoundError: for files that are not there.
        """
        check_count(batch_size=self.batch_size)
        choose_device(self.device)
        if self.module:
            return build_extractor("module", target=self.module, state=self.module_state or None)
        if self.extractor == "module":
            raise ValueError("the extractor 'module' needs to know which: give --module package:Class")
        if self.inception_weights:
            return build_extractor("inception", weights=self.inception_weights)
        if data is None:
            return choose_extractor(self.extractor)
        return load_extractor(resolve_extractor(self.extractor, data), data)


@dataclass(frozen=True)
class Sources:
    """Folders of pictures, or npy or npz files, to be scored in place of a model's samples.

    Args:
        real: real images.
        fake: images to be scored against them.
        train: training images, for the scores of memorisation.
        real_labels: npy file of the real images' classes, whole numbers in the same order; for scores within classes.
        fake_labels: the same for the scored images.
    """

    real: str = ""
    fake: str = ""
    train: str = ""
    real_labels: str = ""
    fake_labels: str = ""


def main(
    model: str = "",
    sampler: str = "",
    n: int = 1000,
    seed: int = 0,
    compare: Path | None = None,
    cache: Path | None = None,
    sources: Sources = Sources(),
    features: Features = Features(),
) -> None:
    """Score samples of a model against its data set's test images, or the images `fake` against `real`.

    Args:
        model: a model file, run id or models:/ URI.
        sampler: to draw with; by default the model's best.
        n: how many samples.
        seed: of the samples and of the subsets.
        compare: an earlier report.json; it is an error if the numbers of both do not compare.
        cache: folder that keeps features, for sets that are scored again.
        sources: the images, without a model.
        features: the extractor.

    Examples:
        python -m mlflow_projects.evaluate --model models:/geovae@champion --sampler local
        python -m mlflow_projects.evaluate --real FOLDER --fake FOLDER
    """
    check_seed(seed)
    check_count(low=2, n=n)
    if cache:
        entry.check_writable(cache)
    earlier = _read_report(compare) if compare else None  # now: not after minutes of scoring
    if bool(model) == bool(sources.real and sources.fake):
        raise ValueError("give either --model, or both --real and --fake")
    if model and (sources.real_labels or sources.fake_labels):
        raise ValueError("--real-labels and --fake-labels go with --real and --fake: samples of a model have no labels")
    # built before images are read or drawn: a wrong name or missing weights are noticed at once
    saved = load_model(fetch_model(model)) if model else None
    scorer = Scorer(
        features.choose(saved.meta["data"] if saved else None),
        seed=seed,
        batch_size=features.batch_size,
        device=choose_device(features.device),
        cache=FeatureCache(cache) if cache else None,
        progress=True,
    )
    if saved:
        check_count(low=scorer.least_images, n=n)
        check_drawn(saved, n)
    images = _from_model(saved, sampler, n, seed) if saved else _from_files(sources, scorer)
    with entry.open_run("evaluate") as tracker:
        report = evaluate(images, scorer)
        _track(tracker, report, images)
        used = {"model": model, "sampler": sampler, "n": n, "seed": seed, **asdict(sources), **asdict(features)}
        tracker.params({f"cfg.{key}": value for key, value in (used | {"extractor": scorer.name}).items()})
    # after the run is recorded: the scores are valid, only the comparison is not
    if earlier is not None and (why := differences(earlier, report)):
        raise ValueError(f"these numbers do not compare with those of {compare}: {'; '.join(why)}")
    key = headline(scorer.name)
    for name, value in report.values.items():
        print(f"{name:40s} {value:.5g}")
    weak = " (weak: these features cannot rank samplers)" if is_weak(key) else ""
    print(f"\n{key}{weak} {report.values[key]:.5g}; {_beside(report.values, key)}")


def _beside(values: Mapping[str, float], key: str) -> str:
    """Return what the score of real images is, and of decoded codes where there is a model."""
    text = f"real against real {values[f'real_{key}']:.5g}"
    if f"decoded_{key}" not in values:
        return text
    return f"{text}; decoded held-out codes {values[f'decoded_{key}']:.5g}, {values['decoded_ratio']:.3g} times that"


def _from_files(sources: Sources, scorer: Scorer) -> ImageSets:
    labels = [read_labels(file) if file else None for file in (sources.real_labels, sources.fake_labels)]
    read = {}
    for name in ("real", "fake", "train"):
        if path := getattr(sources, name):
            read[name] = read_images(path)
            if len(read[name]) < scorer.least_images:
                raise ValueError(
                    f"`{name}` must hold at least {scorer.least_images} images for the scores "
                    f"{', '.join(scorer.scores)}, {path} holds {len(read[name])}"
                )
    sets = match_channels(read)
    return ImageSets(sets["real"], sets["fake"], sets.get("train"), real_labels=labels[0], fake_labels=labels[1])


def _from_model(saved: SavedModel, sampler: str, n: int, seed: int) -> ImageSets:
    splits = saved.splits()
    z = saved.sampler(sampler or None).sample(n, Generator().manual_seed(seed))
    # other validation images would be left for the score of real images, but without a test part there are none
    real, other = (splits.test, splits.val) if splits.test is not None else (splits.val, None)
    return ImageSets(
        real=real.images,
        fake=saved.decode(z),
        train=splits.train.images,
        other_real=None if other is None else other.images,
        decoded=saved.decode(saved.encode((other or real).images).mu),
        reconstructions=saved.decode(saved.codes.mu),
        latents=Latents(saved.codes.mu, z, saved.encode(real.images).mu),
    )


def _track(tracker: MlflowTracker, report: Report, images: ImageSets) -> None:
    tracker.metrics({f"score/{key}": value for key, value in report.values.items()})
    tracker.text("report.json", report.to_json())
    if report.curve:
        curve = (report.curve["precision"], report.curve["recall"])
        tracker.figure("figures/prd.png", prd_figure({"samples": curve}))
    others = {"train": images.train, "reconstructions": images.reconstructions}
    names = {"train": "nearest training image", "reconstructions": "nearest reconstruction"}
    rows = {names[key]: x[report.nearest[key][:SHOWN]] for key, x in others.items() if x is not None}
    if rows:
        samples = {"sample": images.fake[report.nearest["fake"][:SHOWN]]}
        tracker.figure("figures/nearest.png", neighbour_figure(samples | rows))


def _read_report(path: Path) -> Report:
    if not path.is_file():
        raise FileNotFoundError(f"no report at {path}: expected the report.json of an earlier evaluation")
    try:
        return Report.from_json(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not the report.json of an earlier evaluation: {error}") from error


if __name__ == "__main__":
    entry.main(main)
