"""Make the README's pictures and its table from the latest `make demo`: `make pictures`."""

import re
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from PIL import Image, ImageDraw

from experiments.tables import Markdown, as_markdown
from geovae.data import DATASETS
from geovae.images import image_grid

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
SAMPLERS = {  # the best first
    "fine_mixture": "many components for each class",
    "local": "around single codes",
    "riemannian": "the published walk",
    "mixture": "of ten components, the usual choice",
    "prior": "the standard normal distribution",
}


def main() -> None:
    """Write docs/pictures/*.png, and the table of distances between its marks in README.md."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("geovae")
    if experiment is None:
        raise SystemExit("no experiment 'geovae' here: run `make demo` first")
    runs = client.search_runs([experiment.experiment_id], "tags.role = 'comparison' and attributes.status = 'FINISHED'")
    if not runs:
        raise SystemExit("no finished comparison here: run `make demo` first")
    parent = runs[0]
    children = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    vae = next(run for run in children if run.info.run_name == "vae")
    PICTURES.mkdir(parents=True, exist_ok=True)
    latent_map = client.download_artifacts(vae.info.run_id, "figures/latent_map.png")
    Image.open(latent_map).save(PICTURES / "latent_map.png", optimize=True)
    grids = {"real": real_digits()} | {name: samples(client, vae.info.run_id, name) for name in reversed(SAMPLERS)}
    side_by_side(grids).save(PICTURES / "samples.png")
    table = by_sampler(mlflow.load_table("leaderboard.json", [parent.info.run_id]).to_dict("records"))
    readme = ROOT / "README.md"
    marks = re.compile(r"(<!-- leaderboard -->\n).*?(<!-- /leaderboard -->)", re.DOTALL)
    readme.write_text(marks.sub(lambda m: f"{m[1]}{table}{m[2]}", readme.read_text()))
    sys.stdout.write(f"pictures in {PICTURES}, table in {readme}\n")


def by_sampler(board: list[dict[str, Any]]) -> str:
    """Return the distance of every model's samples to the test images, and its ratio to that of decoded codes."""
    headline = next(name for name in board[0] if name.startswith("val_")).removeprefix("val_")
    models = sorted({row["run"] for row in board}, key=["vae", "ae", "wae"].index)
    best = {model: min(row[f"test_{headline}"] for row in board if row["run"] == model) for model in models}
    cells = {}
    for row in board:
        distance, ratio = row[f"test_{headline}"], row["test_decoded_ratio"]
        bold = "**" * (distance == best[row["run"]])
        cells[row["sampler"], row["run"]] = Markdown(f"{bold}{distance:.1f}{bold} ({ratio:.1f})")
    rows = [
        [Markdown(f"`{name}`, {text}"), *(cells.get((name, model), "") for model in models)]
        for name, text in SAMPLERS.items()
    ]
    return as_markdown(["sampler", *models], rows)


def real_digits() -> np.ndarray:
    """Return 64 test images, chosen at random, as a grid."""
    test = DATASETS["mnist_5k"]().test
    assert test is not None
    chosen = torch.randperm(len(test.images), generator=torch.Generator().manual_seed(0))[:64]  # they lie by class
    return image_grid(test.images[chosen], scale=2)


def samples(client: mlflow.MlflowClient, run_id: str, sampler: str) -> np.ndarray:
    """Return the grid that the run logged for a sampler."""
    paths = [item.path for item in client.list_artifacts(run_id, "images") if item.path.endswith(".png")]
    path = next(path for path in paths if re.split("[%+]", Path(path).name)[0] == f"samples~{sampler}")
    return np.asarray(Image.open(client.download_artifacts(run_id, path)))


def side_by_side(grids: dict[str, np.ndarray]) -> Image.Image:
    """Return the grids in one row, each under its name."""
    width, height = 200, 224
    picture = Image.new("L", (width * len(grids), height), 255)
    draw = ImageDraw.Draw(picture)
    for i, (name, grid) in enumerate(grids.items()):
        picture.paste(Image.fromarray(grid).resize((width - 8, height - 24)), (i * width + 4, 20))
        draw.text((i * width + 6, 4), name, fill=0)
    return picture


if __name__ == "__main__":
    main()
