"""`mlflow run . -e evaluate`: score a model's samples against its data set's test images, or two sets of images."""

from collections.abc import Sequence

import torch

from experiments.run import choose_extractor, decode_images, headline
from geovae.checkpoint import load_model
from geovae.data import DATASETS
from geovae.evaluation.evaluate import evaluate
from geovae.evaluation.folders import read_images
from geovae.evaluation.report import Report
from geovae.figures.evaluation import neighbour_figure, prd_figure
from geovae.samplers import SAMPLERS
from geovae.tracking import MlflowTracker
from mlflow_projects import entry
from mlflow_projects.registry import fetch_model


def main(flags: Sequence[str]) -> None:
    """Score `--n` samples of `--model` (drawn with `--sampler`), or the images `--fake` against `--real`.

    `--real`, `--fake` and `--train` are folders of pictures, or npy or npz files. `--seed` draws the samples and the
    subsets; `--extractor` names the features.
    """
    values, rest = entry.take_flags(
        flags, model="", sampler="", n="500", seed="0", real="", fake="", train="", extractor="auto"
    )
    entry.refuse(rest, list(values))
    seed, n = entry.whole("seed", values["seed"], 0), entry.whole("n", values["n"], 2)
    extractor = choose_extractor(values["extractor"])
    if bool(values["model"]) == bool(values["real"] and values["fake"]):
        raise ValueError("give either --model, or both --real and --fake")
    if values["model"]:
        train: torch.Tensor | None
        train, real, fake = _from_model(values["model"], values["sampler"], n, seed)
    else:
        train = read_images(values["train"]) if values["train"] else None
        real, fake = read_images(values["real"]), read_images(values["fake"])
    with entry.open_run("evaluate") as tracker:
        report = evaluate(train=train, real=real, fake=fake, extractor=extractor, seed=seed, progress=True)
        _track(tracker, report, train, fake)
        tracker.tags({key: value for key, value in values.items() if value})
    for key, value in report.values.items():
        print(f"{key:36s} {value:.5g}")
    print(f"headline: {headline(extractor)} {report.values[headline(extractor)]:.5g}")
    print("\n".join(report.notes))


def _from_model(uri: str, sampler: str, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return training images, held-out images and n samples of a model file."""
    saved = load_model(fetch_model(uri))
    name = sampler or saved.meta["best_sampler"]
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; choose from {', '.join(SAMPLERS)}")
    data = dict(saved.meta["data"])
    splits = DATASETS[data.pop("name")](**data)
    if splits.digest != saved.meta["digest"]:
        raise ValueError(
            f"the data set {saved.meta['data']['name']!r} found here is not the one that the model was trained on: "
            f"digest {splits.digest}, expected {saved.meta['digest']}"
        )
    drawn = SAMPLERS[name](**saved.meta["sampler"].get(name, {})).fit(saved.codes)
    images = decode_images(saved.model, drawn.sample(n, torch.Generator().manual_seed(seed)))
    return splits.train.images, (splits.test or splits.val).images, images


def _track(tracker: MlflowTracker, report: Report, train: torch.Tensor | None, fake: torch.Tensor) -> None:
    tracker.metrics({f"score/{key}": value for key, value in report.values.items()})
    tracker.text("report.json", report.to_json())
    if report.curve:
        tracker.figure("figures/prd.png", prd_figure({"samples": (report.curve["precision"], report.curve["recall"])}))
    if train is not None and "train" in report.nearest:
        shown, nearest = (torch.tensor(report.nearest[key][:8]) for key in ("fake", "train"))
        tracker.figure(
            "figures/nearest.png", neighbour_figure({"sample": fake[shown], "nearest training image": train[nearest]})
        )


if __name__ == "__main__":
    entry.main(main)
