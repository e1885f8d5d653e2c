"""`mlflow run . -e generate`: draw images from a model into a folder of PNG files."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.planes import directions_of_model, plane_grid
from geovae.checks import check_choice, check_count, check_seed
from geovae.files import atomic_folder, check_memory
from geovae.images import as_pictures, image_grid
from geovae.samplers import SAMPLERS
from geovae.saved_model import SavedModel, load_model
from mlflow_projects import entry
from mlflow_projects.registry.versions import CHAMPION, NAME, fetch_model


@dataclass(frozen=True)
class Drawing:
    """What is drawn, from which model; `generate` and `brains` share these options.

    Args:
        model: a model file, run id or models:/ URI.
        sampler: to draw with; by default the model's best.
        n: how many.
        seed: of the samples.
        output: new folder for the files.
    """

    model: str = f"models:/{NAME}@{CHAMPION}"
    sampler: str = ""
    n: int = 100
    seed: int = 0
    output: Path = Path("generated")

    def load(self) -> SavedModel:
        """Return the model, fetched once the other options are known to be valid."""
        check_count(n=self.n)
        check_seed(self.seed)
        if self.sampler:
            check_choice("sampler", self.sampler, SAMPLERS)
        entry.check_new(self.output)
        saved = load_model(fetch_model(self.model))
        check_drawn(saved, self.n)
        return saved


def main(drawing: Drawing = Drawing(), label: int | None = None) -> None:
    """Draw images from a model into a folder of PNG files.

    Args:
        drawing: what, from which model.
        label: of the class to draw, where the training images have classes; by default all.

    Examples:
        python -m mlflow_projects.generate --n 64 --sampler mixture --output pictures
        python -m mlflow_projects.generate --model RUN_ID --sampler fine_mixture --label 3 --output threes
    """
    saved, n = drawing.load(), drawing.n
    name = drawing.sampler or saved.meta["best_sampler"]
    sampler = saved.sampler(name, label=label)  # fitted before the run is opened: the codes may not feed it
    with entry.open_run("generate") as tracker:
        z, info = sampler.sample(n, torch.Generator().manual_seed(drawing.seed), return_info=True)
        images = as_pictures(saved.decode(z))
        write_pngs(drawing.output, images)
        tracker.image(f"samples/{name}", plane_grid(images[:64], directions_of_model(saved.meta)))
        tracker.metrics({f"sampler/{name}/{key}": value for key, value in info.scalars().items()})
        tracker.tags({"sampler": name, "model_uri": drawing.model, "output": drawing.output.absolute()})
        tracker.params({} if label is None else {"label": label})
    print(f"{n} images drawn with the {name} sampler: {drawing.output}/00000000.png ...")
    print(f"the first {len(images[:64])} on one sheet: {entry.run_address(tracker)}")


def check_drawn(saved: SavedModel, n: int) -> None:
    """Raise a ValueError if no memory holds `n` images."""
    check_memory(f"`n` must be smaller: {n} images have", n * math.prod(saved.meta["image_shape"]))


def write_pngs(folder: Path, images: torch.Tensor) -> None:
    """Write uint8 images (n, c, h, w) as `folder`/%08d.png; the folder appears when it is complete."""
    from PIL import Image

    with atomic_folder(folder) as temporary:
        for i, image in enumerate(images):
            Image.fromarray(image_grid(image[None], padding=0)).save(temporary / f"{i:08d}.png")


if __name__ == "__main__":
    entry.main(main)
