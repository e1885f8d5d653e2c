"""`mlflow run . -e evaluate`: score a model's samples against its data set's test images, or two sets of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Generator, Tensor, nn

from experiments.judge import choose_device, choose_extractor, decode_images, load_data_of
from geovae.codes import encode_images
from geovae.evaluation import FeatureCache
from geovae.evaluation import extractor as build_extractor
from geovae.evaluation.evaluate import evaluate
from geovae.evaluation.folders import read_images, read_labels
from geovae.evaluation.image_sets import check_sets
from geovae.evaluation.report import Report, differences
from geovae.evaluation.scores import reported_name
from geovae.figures.evaluation import neighbour_figure, prd_figure
from geovae.samplers import SAMPLERS
from geovae.saved_model import load_model
from geovae.tracking import MlflowTracker
from mlflow_projects import entry
from mlflow_projects.registry.versions import fetch_model

SHOWN = 8
DEFAULTS = {
    "model": "",
    "sampler": "",
    "n": "500",
    "seed": "0",
    "real": "",
    "fake": "",
    "train": "",
    "real-labels": "",
    "fake-labels": "",
    "extractor": "auto",
    "inception-weights": "",
    "module": "",
    "module-state": "",
    "compare": "",
    "device": "auto",
    "batch-size": "50",
    "cache": "",
}


class Images(NamedTuple):
    """What is scored: image sets (n, c, h, w), and for a model its codes and its training images' reconstructions."""

    real: Tensor
    fake: Tensor
    train: Tensor | None = None
    other_real: Tensor | None = None
    reconstructions: Tensor | None = None
    codes: dict[str, Tensor] | None = None
    real_labels: Tensor | None = None
    fake_labels: Tensor | None = None


def main(flags: Sequence[str]) -> None:
    """Score `--n` samples of `--model` (drawn with `--sampler`), or the images `--fake` against `--real`.

    `--real`, `--fake` and `--train` are folders of pictures, or npy or npz files; `--real-labels` and `--fake-labels`,
    npy files of whole numbers in the same order, add the scores within each class. `--seed` draws the samples and the
    subsets. `--extractor` names the features: auto, inception (with `--inception-weights FILE` if they lie elsewhere
    than in torch's cache), random-conv-v1, pixels, or module with `--module package:Class` and `--module-state FILE`.
    `--compare REPORT` ends in an error unless the numbers of that earlier report.json compare with these. `--cache
    FOLDER` keeps features there, for sets that are scored again; `--device` and `--batch-size` are for the extractor.
    """
    values, rest = entry.take_flags(flags, **DEFAULTS)
    entry.refuse(rest, list(values), main.__doc__ or "")
    seed, n = entry.whole("seed", values["seed"], 0), entry.whole("n", values["n"], 2)
    device, batch_size = choose_device(values["device"]), entry.whole("batch-size", values["batch-size"], 1)
    earlier = _read_report(Path(values["compare"])) if values["compare"] else None
    extractor = _extractor(values)
    if bool(values["model"]) == bool(values["real"] and values["fake"]):
        raise ValueError("give either --model, or both --real and --fake")
    if values["model"] and (values["real-labels"] or values["fake-labels"]):
        raise ValueError("--real-labels and --fake-labels go with --real and --fake: samples of a model have no labels")
    images = _from_model(values, n, seed) if values["model"] else _from_files(values)
    with entry.open_run("evaluate") as tracker:
        report = evaluate(
            **images._asdict(),
            extractor=extractor,
            seed=seed,
            batch_size=batch_size,
            device=device,
            cache=FeatureCache(values["cache"]) if values["cache"] else None,
            progress=True,
        )
        _track(tracker, report, images)
        tracker.params({f"cfg.{key}": value for key, value in values.items()})
    if earlier is not None and (why := differences(earlier, report)):
        raise ValueError(f"these numbers do not compare with those of {values['compare']}: {'; '.join(why)}")
    key = reported_name("frechet", report.settings["extractor"])
    for name, value in report.values.items():
        print(f"{name:40s} {value:.5g}")
    print(f"\n{key} {report.values[key]:.5g}; real against real {report.values[f'real_{key}']:.5g}")


def _extractor(values: dict[str, str]) -> str | nn.Module:
    if values["module"]:
        return build_extractor("module", target=values["module"], state=values["module-state"] or None)
    if values["inception-weights"]:
        return build_extractor("inception", weights=values["inception-weights"])
    return choose_extractor(values["extractor"])


def _from_files(values: dict[str, str]) -> Images:
    train = read_images(values["train"]) if values["train"] else None
    labels = [read_labels(file) if (file := values[f"{name}-labels"]) else None for name in ("real", "fake")]
    real, fake = read_images(values["real"]), read_images(values["fake"])
    images = Images(real, fake, train, real_labels=labels[0], fake_labels=labels[1])
    check_sets(**{name: x for name, x in images._asdict().items() if name != "codes"})
    return images


def _from_model(values: dict[str, str], n: int, seed: int) -> Images:
    saved = load_model(fetch_model(values["model"]))
    name = values["sampler"] or saved.meta["best_sampler"]
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; choose from {', '.join(SAMPLERS)}")
    splits = load_data_of(saved)
    z = SAMPLERS[name](**saved.meta["sampler"].get(name, {})).fit(saved.codes).sample(n, Generator().manual_seed(seed))
    real, other = (splits.test, splits.val) if splits.test is not None else (splits.val, None)
    return Images(
        real=real.images,
        fake=decode_images(saved.model, z),
        train=splits.train.images,
        other_real=None if other is None else other.images,
        reconstructions=decode_images(saved.model, saved.codes.mu),
        codes={"train": saved.codes.mu, "fake": z, "real": encode_images(saved.model, real.images).mu},
    )


def _track(tracker: MlflowTracker, report: Report, images: Images) -> None:
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
