"""`mlflow run . -e import_checkpoint`: bring a trained model of the paper's published code into a run of ours."""

from collections.abc import Sequence
from pathlib import Path

from experiments.config import resolve
from experiments.judge import MODEL, choose_extractor, headline
from geovae import checkpoint
from geovae.codes import encode_images
from geovae.data import DATASETS
from geovae.models import build_model
from geovae.models.published import read_published
from mlflow_projects import entry


def main(flags: Sequence[str]) -> None:
    """Write a model file from `--path` (a best_model.pt), with the codes of the training images of `--dataset`.

    The other flags are options of a run: `--data.root`, `--sampler.riemannian.temperature` and so on go into the file.
    """
    values, rest = entry.take_flags(flags, path="", dataset="digits")
    if not values["path"]:
        raise ValueError("give --path, the best_model.pt of the published code")
    published = read_published(values["path"])
    options = [f"--model.{key}={value}" for key, value in published.options.items()]
    chosen = [f"--data.name={values['dataset']}", f"--model.name={published.name}", *options, *rest]
    config = entry.check_config(resolve(chosen, prog="import_checkpoint"))
    model = build_model(published.name, published.image_shape, **published.options).eval()
    model.load_state_dict(published.weights)
    data = {key: value for key, value in config["data"].items() if key != "name"}
    splits = DATASETS[config["data"]["name"]](**data)
    if splits.image_shape != published.image_shape:
        raise ValueError(
            f"the model draws images of shape {published.image_shape}, but {values['dataset']} has {splits.image_shape}"
        )
    with entry.open_run("import_checkpoint") as tracker:
        output = entry.describe_run("import_checkpoint", config, tracker)
        file = checkpoint.save_model(
            output / MODEL,
            model,
            encode_images(model, splits.train.images),  # type: ignore[arg-type]
            name=published.name,
            options=published.options,
            image_shape=published.image_shape,
            data=config["data"],
            digest=splits.digest,
            sampler=config["sampler"],
            best_sampler="riemannian" if published.name == "vae" else "mixture",
            headline=headline(choose_extractor(config["extractor"])),
            scores={},
            seed=config["seed"],
        )
        tracker.artifact(file, "model")
        tracker.tags({"imported_from": Path(values["path"]).name})
    print(f"model: {file}    run: {tracker.run_id}    score it: mlflow run . -e evaluate -P model={tracker.run_id}")


if __name__ == "__main__":
    entry.main(main)
