"""`mlflow run . -e generate`: draw images from a model into a folder of PNG files."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.judge import decode_images
from geovae.images import image_grid
from geovae.samplers import SAMPLERS
from geovae.saved_model import load_model
from mlflow_projects import entry
from mlflow_projects.registry.versions import CHAMPION, NAME, fetch_model


def main(flags: Sequence[str]) -> None:
    """Draw `--n` images from `--model` with `--sampler` and `--seed` into the new folder `--output`."""
    values, rest = entry.take_flags(
        flags, model=f"models:/{NAME}@{CHAMPION}", sampler="", n="100", seed="0", output="generated"
    )
    entry.refuse(rest, list(values), main.__doc__ or "")
    n, seed = entry.whole("n", values["n"], 1), entry.whole("seed", values["seed"], 0)
    output = Path(values["output"])
    if output.exists():
        raise FileExistsError(f"{output} exists already: choose another output folder, nothing is overwritten")
    saved = load_model(fetch_model(values["model"]))
    options = saved.meta["sampler"]
    name = values["sampler"] or saved.meta["best_sampler"]
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; choose from {', '.join(SAMPLERS)}")
    with entry.open_run("generate") as tracker:
        sampler = SAMPLERS[name](**options.get(name, {})).fit(saved.codes)
        z, info = sampler.sample(n, torch.Generator().manual_seed(seed), return_info=True)
        images = decode_images(saved.model, z)
        write_pngs(output, images)
        tracker.image(f"samples/{name}", image_grid(images[:64], scale=2))
        tracker.metrics({f"sampler/{name}/{key}": value for key, value in info.scalars().items()})
        tracker.tags({"sampler": name, "model_uri": values["model"], "output": output.absolute()})
    print(f"{n} images drawn with the {name} sampler: {output}/00000000.png ...")


def write_pngs(folder: Path, images: torch.Tensor) -> None:
    """Write uint8 images (n, c, h, w) as `folder`/%08d.png; the folder appears when it is complete."""
    from PIL import Image

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
