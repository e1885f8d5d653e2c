"""`mlflow run . -e import_checkpoint`: bring a trained model of the paper's published code into a run of ours."""

import inspect
from collections.abc import Sequence
from pathlib import Path

from experiments.config import resolve
from experiments.describe import describe_run
from experiments.judge import choose_device
from experiments.run import check, judge_trained, load_data, track_data
from geovae.models import build_model
from geovae.models.published import read_published
from mlflow_projects import entry


def main(flags: Sequence[str]) -> None:
    """Read `--path` (a best_model.pt), encode the training images of `--dataset` with it, draw, score, and keep it all.

    The other flags are options of a run: `--data.root`, `--samplers`, `--sampler.riemannian.temperature` and so on.
    """
    values, rest = entry.take_flags(flags, path="", dataset="digits")
    if not values["path"]:
        raise ValueError("give --path, the best_model.pt of the published code")
    published = read_published(values["path"])
    options = [f"--model.{key}={value}" for key, value in published.options.items()]
    chosen = [f"--data.name={values['dataset']}", f"--model.name={published.name}", *options, *rest]
    config = entry.check_config(resolve(chosen, prog="import_checkpoint"))
    judge = check(**{name: config[name] for name in inspect.signature(check).parameters}).judge
    splits = load_data(config["data"])
    if splits.image_shape != published.image_shape:
        raise ValueError(
            f"the model draws images of shape {published.image_shape}, but {values['dataset']} has {splits.image_shape}"
        )
    model = build_model(published.name, published.image_shape, **published.options).eval()
    model.load_state_dict(published.weights)
    with entry.open_run("import_checkpoint") as tracker:
        output = describe_run("import_checkpoint", config, tracker)
        tracker.tags({"imported_from": Path(values["path"]).name})
        track_data(tracker, values["dataset"], splits)
        result = judge_trained(
            judge,
            model.to(choose_device(config["device"])),
            splits,
            data=config["data"],
            model={"name": published.name, **published.options},
            seed=config["seed"],
            output=output,
            tracker=tracker,
        )
    for name, scores in result.val_scores.items():
        print(f"{name:12s} {result.headline} {scores[result.headline]:.4g} against the validation images")
    print(f"model: {result.model_file}    run: {result.run_id}")


if __name__ == "__main__":
    entry.main(main)
