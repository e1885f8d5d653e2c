"""`mlflow run . -e adopt`: an autoencoder that was trained elsewhere gets what one of ours does."""

import warnings
from pathlib import Path
from typing import Literal

from experiments.config import Options, resolve
from experiments.describe import describe_run, track_data
from experiments.judge import plan_judge
from experiments.planes import directions_of
from experiments.run import judge_trained, load_data, track_reconstructions
from geovae.adapters import Adapter, Architecture, adopt
from geovae.codes import encode_images
from geovae.data import Splits
from geovae.devices import choose_device
from geovae.images import to_float
from geovae.saved_model import SavedModel
from mlflow_projects import entry
from mlflow_projects.registry.promotion import register_and_promote
from mlflow_projects.train import print_result

Kind = Literal["pythae", "diffusers", "weights"]
MISFIT = (
    "the mean image is nearer to the images than what the model makes of them: "
    "it was trained on other images, or on values outside [0, 1]"
)
OF_TRAINING = ("model", "training", "images_every", "keep_checkpoint")  # options without a meaning here


def main(
    path: Path, kind: Kind, options: Options, register: str = "", architecture: Architecture = Architecture()
) -> None:
    """Encode the training images of `--dataset` with a model from elsewhere, draw, score, and track all of it.

    All other options are those of a run, such as `--data.root`: `python -m mlflow_projects.train --help` lists them.

    Args:
        path: pythae's or diffusers' folder, or a file of weights: a state dict, a Lightning checkpoint, safetensors.
        kind: pythae, diffusers or weights.
        options: of the run.
        register: name of the registered model that it becomes a version of; by default none.
        architecture: what the files do not say.

    Examples:
        python -m mlflow_projects.adopt --kind pythae --path FOLDER --dataset mnist_5k --register adopted
    """
    if ignored := [name for name in options if name.partition(".")[0] in OF_TRAINING]:
        raise ValueError(f"`{ignored[0]}` has no meaning for a model that is trained already; leave it out")
    config = resolve(options, prog="adopt")
    splits = load_data(config["data"])
    model, described = adopt(kind, path, architecture, splits.train.images[:2])
    kept = {key: value for key, value in config.items() if key not in OF_TRAINING}
    config = kept | {"model": {"name": kind, **described}}
    judge = plan_judge(config, encode_images(model, splits.train.images[:2]))
    judge.require(splits)
    data = config["data"]["name"]
    with entry.open_run("adopt", f"{kind}-{data}-s{config['seed']}") as tracker:
        output = describe_run("adopt", judge.config, tracker)
        tracker.tags({"imported_from": path.resolve().name})
        track_data(tracker, data, splits)
        model.to(choose_device(config["device"]))
        directions = directions_of(config["data"], splits.image_shape)
        track_reconstructions(tracker, model, splits.val.images[:16], 0, directions)
        if _is_misfit(model, splits):
            warnings.warn(MISFIT)
            tracker.tags({"warning.model": MISFIT})
        result = judge_trained(judge, model, splits, output, tracker)
    print_result(result)
    if register:
        _register(str(result.run_id), register)


def _is_misfit(model: Adapter, splits: Splits) -> bool:
    """Return whether the mean training image is nearer to the validation images than their reconstructions."""
    codes = encode_images(model, splits.val.images)
    made = to_float(SavedModel(model, codes, {}).decode(codes.mu))
    x, mean = to_float(splits.val.images), to_float(splits.train.images).mean(0)
    return bool((made - x).square().mean() > (mean - x).square().mean())


def _register(run_id: str, name: str) -> None:
    from mlflow import MlflowClient

    MlflowClient().set_terminated(run_id)  # `mlflow run` ends it later, and only a finished run is judged
    register_and_promote(run_id, name)


if __name__ == "__main__":
    entry.main(main, more_options=resolve)
