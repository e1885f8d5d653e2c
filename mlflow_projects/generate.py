"""`mlflow run . -e generate`: draw images from a model into a folder of PNG files."""

import os
import shutil
from pathlib import Path

import torch

from geovae.checks import check_choice, check_count
from geovae.images import image_grid
from geovae.samplers import SAMPLERS
from geovae.saved_model import load_model
from mlflow_projects import entry
from mlflow_projects.registry.versions import CHAMPION, NAME, fetch_model


def main(
    model: str = f"models:/{NAME}@{CHAMPION}",
    sampler: str = "",
    n: int = 100,
    seed: int = 0,
    output: Path = Path("generated"),
) -> None:
    """Draw images from a model into a folder of PNG files.

    Args:
        model: a model file, run id or models:/ URI.
        sampler: to draw with; by default the model's best.
        n: how many images.
        seed: of the samples.
        output: new folder for the files.
    """
    check_count(n=n)
    check_count(low=0, seed=seed)
    entry.check_new(output)  # before a model is fetched
    saved = load_model(fetch_model(model))
    name = sampler or saved.meta["best_sampler"]
    check_choice("sampler", name, SAMPLERS)
    with entry.open_run("generate") as tracker:
        z, info = saved.sampler(name).sample(n, torch.Generator().manual_seed(seed), return_info=True)
        images = saved.decode(z)
        write_pngs(output, images)
        tracker.image(f"samples/{name}", image_grid(images[:64], scale=2))
        tracker.metrics({f"sampler/{name}/{key}": value for key, value in info.scalars().items()})
        tracker.tags({"sampler": name, "model_uri": model, "output": output.absolute()})
    print(f"{n} images drawn with the {name} sampler: {output}/00000000.png ...")


def write_pngs(folder: Path, images: torch.Tensor) -> None:
    """Write uint8 images (n, c, h, w) as `folder`/%08d.png; the folder appears when it is complete."""
    from PIL import Image

    # beside the target: a folder is renamed atomically only within one file system
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        for i, image in enumerate(images):
            Image.fromarray(image_grid(image[None], padding=0)).save(temporary / f"{i:08d}.png")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    entry.main(main)
