"""What a model trained on brains generates, beside real ones and back in millimetres.

Samples with their nearest training brain and the difference, a geodesic from a young brain to an old one, the latent
space by age and CDR, and NIfTI files that lie where the model's data lay.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from geovae.codes import encode_images
from geovae.data import Split
from geovae.figures import mri as figures
from geovae.figures import mri_samples
from geovae.geometry import LatentMetric, distances_from, neighbour_graph, refine, straight
from geovae.geometry.curves import resample
from geovae.images import as_pictures, comparison_grid
from geovae.mri import Volume, array_to_volume, edge_letters, picture_to_volume, write_nifti
from geovae.mri.steps.restore import Space
from geovae.samplers import SAMPLERS, RiemannianSampler
from geovae.saved_model import SavedModel
from geovae.tracking import Tracker

BRAINS = ("oasis", "oasis_volumes")
HOW = "make it with `mlflow run . -e prepare -P dataset=oasis -P source=FOLDER`"
FRAMES, STRIP = 16, 8
WRITTEN = 4  # NIfTI files of each sampler that are tracked


@dataclass(frozen=True, eq=False)
class Cohort:
    """All that was prepared, in the order of the file.

    Attributes:
        images: uint8 (n, 1, h, w), or volumes (n, x, y, z).
        ids: (n,) of sessions.
        age: (n,) years, NaN where unknown.
        cdr: (n,), NaN where not assessed.
        affines: (n, 4, 4), mm, of each image as a volume in RAS order.
        settings: of `geovae.mri.prepare`.
    """

    images: Tensor
    ids: list[str]
    age: np.ndarray
    cdr: np.ndarray
    affines: np.ndarray
    settings: dict[str, Any]

    def volume(self, image: Tensor, row: int) -> Volume:
        """Return an image (c, h, w) of the model as a volume in [0, 1], in the place of the cohort's `row`."""
        affine = self.affines[row]
        if len(image) > 1:
            return array_to_volume(image.numpy().astype(np.float32) / 255, affine)
        axis, view = self.settings["axis"], self.settings["view"]
        return picture_to_volume(image[0].numpy(), affine, axis=axis, view=view)


def read_cohort(data: dict[str, Any]) -> Cohort:
    """Return the cohort that a model's `data` options name.

    Raises:
        FileNotFoundError: if nothing was prepared there.
        ValueError: if it is no cohort of brains, or its file was not written by `geovae.mri.prepare`.
    """
    if data["name"] not in BRAINS:
        raise ValueError(f"brains are shown of models trained on {' or '.join(BRAINS)}, got one of {data['name']!r}")
    folder = Path(data["root"]) / "oasis"
    if not (folder / "OASIS.npz").is_file():
        raise FileNotFoundError(f"no `{folder / 'OASIS.npz'}`: {HOW}")
    with np.load(folder / "OASIS.npz", allow_pickle=False) as archive:
        missing = [name for name in ("ids", "age", "cdr", "affines", "settings", "volumes") if name not in archive]
        if missing:
            raise ValueError(f"`{folder / 'OASIS.npz'}` has no {', '.join(missing)}: {HOW}")
        arrays = {name: archive[name] for name in archive.files}
    settings = json.loads(str(arrays["settings"]))
    if data["name"] == "oasis":
        images = torch.from_numpy(arrays["x_train"]).permute(0, 3, 1, 2)
        return Cohort(images, arrays["ids"].tolist(), arrays["age"], arrays["cdr"], arrays["affines"], settings)
    return _volumes(folder, arrays, settings)


def _volumes(folder: Path, arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> Cohort:
    """Return the cohort of whole volumes: one row a session."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    first = [arrays["ids"].tolist().index(id) for id in ids]
    numbers = json.loads(str(arrays["volumes"]))
    images = np.stack([np.load(folder / "volumes" / f"{id}.npy", allow_pickle=False) for id in ids])
    affines = np.array([numbers[id]["array_affine"] for id in ids])
    return Cohort(torch.from_numpy(images), ids, arrays["age"][first], arrays["cdr"][first], affines, settings)


def show_brains(
    saved: SavedModel,
    cohort: Cohort,
    output: Path,
    tracker: Tracker,
    *,
    n: int = 64,
    sampler: str = "",
    seed: int = 0,
) -> list[Path]:
    """Draw `n` brains from a trained model, track what there is to see of them, and return the NIfTI files.

    Args:
        saved: a model trained on `oasis` or `oasis_volumes`.
        cohort: what it was trained on, see `read_cohort`.
        output: folder for the NIfTI files and the GIF.
        tracker: where the figures go.
        n: brains to draw.
        sampler: which; by default the model's best.
        seed: of the draw.
    """
    rows = rows_of(saved.splits().train, cohort.images)
    name = sampler or saved.meta["best_sampler"]
    fitted = SAMPLERS[name](**saved.meta["sampler"].get(name, {})).fit(saved.codes)
    images = saved.decode(fitted.sample(n, Generator().manual_seed(seed)))
    _track_samples(tracker, cohort, rows, images)
    mu = encode_images(saved.model, cohort.images).mu
    tracker.figure(
        "brains/latent_age_cdr.png",
        mri_samples.latent_map_of_cohort(mu.numpy(), ages=cohort.age.tolist(), cdr=cohort.cdr.tolist()),
    )
    if saved.codes.log_var is not None:
        metric = RiemannianSampler(**saved.meta["sampler"].get("riemannian", {})).fit(saved.codes).metric
        _track_geodesic(tracker, saved, cohort, rows, metric, output)
    return _write(cohort, rows, images, output, tracker)


def rows_of(part: Split, images: Tensor) -> list[int]:
    """Return for each image of `part` the row of `images` that it is."""
    known = {image.contiguous().numpy().tobytes(): row for row, image in enumerate(images)}
    return [known[image.contiguous().numpy().tobytes()] for image in part.images]


def geodesic(metric: LatentMetric, mu: Tensor, start: int, end: int, n_points: int = FRAMES) -> Tensor:
    """Return the geodesic (m, d) between two codes of (n, d), at equal Euclidean distances: through the graph of
    neighbours to its shortest path, and from there to less energy.
    """
    graph = neighbour_graph(metric, mu, n_neighbours=min(10, len(mu) - 1))
    curve = refine(metric, mu, distances_from(graph, start), torch.tensor([end]))[1]
    return resample(curve, n_points)[0]


def young_and_old(cohort: Cohort, rows: list[int]) -> tuple[int, int]:
    """Return which of the rows is the youngest, and which the oldest of the highest CDR."""
    age = np.nan_to_num(cohort.age[rows], nan=50.0)
    grade = np.nan_to_num(cohort.cdr[rows], nan=-1.0)
    return int(age.argmin()), int(np.lexsort((age, grade))[-1])


def _track_samples(tracker: Tracker, cohort: Cohort, rows: list[int], images: Tensor) -> None:
    """Track samples beside their nearest training brains, their mean and spread beside those of the cohort."""
    real, drawn = (as_pictures(x)[:, 0].numpy() for x in (cohort.images[rows], images))
    ids = [cohort.ids[row] for row in rows]
    sides = edge_letters(cohort.settings["axis"], cohort.settings["view"]) if len(images[0]) == 1 else ()
    shown = 8 if len(images[0]) == 1 else 4
    beside = mri_samples.real_versus_generated(drawn, real, ids=ids, limit=shown)
    tracker.figure("brains/real_versus_generated.png", beside)
    tracker.figure("brains/mean_and_sd_generated.png", figures.mean_and_sd(drawn, sides=sides))
    tracker.figure("brains/mean_and_sd_real.png", figures.mean_and_sd(real, sides=sides))
    if len(images[0]) > 1:
        volume = cohort.volume(images[0], rows[0])
        planes, meeting = figures.planes_at(volume.data, volume.affine)
        tracker.figure("brains/orthogonal.png", figures.orthogonal_views(planes, volume.affine, meeting, title="drawn"))
        tracker.text("brains/viewer.html", figures.viewer_html(volume.data, volume.affine, title="drawn"))


def _track_geodesic(
    tracker: Tracker, saved: SavedModel, cohort: Cohort, rows: list[int], metric: LatentMetric, output: Path
) -> None:
    """Track the way from a young brain to an old one: as an animation, and as a strip above the straight line."""
    start, end = young_and_old(cohort, rows)
    mu = saved.codes.mu.to(metric.dtype)  # float64 where posteriors are narrow beside the codes
    curve = geodesic(metric, mu, start, end)
    line = straight(mu[[start]], mu[[end]], FRAMES)[0]
    frames, plain = (as_pictures(saved.decode(z)) for z in (curve, line))
    path = output / "geodesic.gif"
    scale = max(1, round(200 / frames.shape[2]))
    path.write_bytes(mri_samples.interpolation_gif(frames[:, 0].numpy().repeat(scale, 1).repeat(scale, 2)))
    tracker.artifact(path, "brains")
    chosen = torch.linspace(0, FRAMES - 1, STRIP).round().long()
    strip = comparison_grid(frames[chosen], plain[chosen], scale=None)
    tracker.image("brains/geodesic_above_straight_line", strip)
    ends = f"{cohort.ids[rows[start]]} to {cohort.ids[rows[end]]}"
    tracker.tags({"geodesic": ends})


def _write(cohort: Cohort, rows: list[int], images: Tensor, output: Path, tracker: Tracker) -> list[Path]:
    """Write every image as NIfTI, each in the place of its nearest training brain, and track the first ones."""
    real, drawn = (as_pictures(x)[:, 0].numpy() for x in (cohort.images[rows], images))
    nearest = mri_samples.nearest(drawn, real)[0]
    space: Space = (
        "talairach" if cohort.ids[0].startswith("OAS1_") and "t88" in cohort.settings["product"] else "aligned"
    )
    files = []
    for i, (image, row) in enumerate(zip(images, nearest, strict=True)):
        files.append(write_nifti(cohort.volume(image, rows[row]), output / f"brain_{i:04d}.nii.gz", space=space))
    for path in files[:WRITTEN]:
        tracker.artifact(path, "brains/nifti")
    return files
