"""What a model trained on brains generates, beside real ones and back in millimetres.

Samples with their nearest training brain and the difference, a geodesic from a young brain to an old one, the latent
space by age and CDR, and NIfTI files that lie where the model's data lay.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from experiments.help import as_command
from experiments.planes import BRAINS, directions_of
from experiments.quality import viewer_page
from geovae.data import Split
from geovae.figures import mri as figures
from geovae.figures import mri_samples
from geovae.figures.directions import Directions
from geovae.files import atomic_folder, read_npy
from geovae.geometry import LatentMetric, distances_from, neighbour_graph, refine, straight
from geovae.geometry.curves import resample
from geovae.images import as_pictures
from geovae.mri import (
    Volume,
    array_to_volume,
    picture_to_volume,
    read_archive,
    read_manifest,
)
from geovae.mri.cohort.derivatives import derivative_path, write_derivative, write_description
from geovae.mri.cohort.process import MASKED, middle_planes
from geovae.mri.steps.restore import Space
from geovae.neighbours import nearest
from geovae.samplers import RiemannianSampler
from geovae.saved_model import SavedModel
from geovae.tracking import Tracker

COMMAND = as_command("prepare", {"dataset": "oasis", "source": "FOLDER"})
FRAMES, STRIP = 16, 8  # pictures of a geodesic, in the animation and in the strip
TRACKED = 4  # NIfTI files that are tracked
ANIMATION = "geodesic.gif"


@dataclass(frozen=True, eq=False)
class Cohort:
    """All prepared brains, in the order of the file."""

    images: Tensor  # uint8 (n, 1, h, w), or volumes (n, x, y, z)
    ids: list[str]  # (n,) of sessions
    age: np.ndarray  # (n,) years, NaN where unknown
    cdr: np.ndarray  # (n,), NaN where not assessed
    affines: np.ndarray  # (n, 4, 4), mm, of each image as a volume in RAS order
    settings: dict[str, Any]  # of `geovae.mri.prepare`
    directions: Directions  # sides, mm and convention of the pictures

    @property
    def space(self) -> Space:
        """What the millimetres refer to: T88_111 of OASIS-1 is in Talairach's space."""
        is_t88 = self.ids[0].startswith("OAS1_") and "t88" in self.settings["product"]
        return "talairach" if is_t88 else "aligned"

    def volume(self, image: Tensor, row: int) -> Volume:
        """Return an image (c, h, w) of the model as a volume in [0, 1], at the position of the cohort's `row`."""
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
    try:
        arrays = read_archive(data["root"])
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{error}, such as by `{COMMAND}`") from error
    ids, affines = arrays["ids"].tolist(), arrays["affines"]
    rows = list(range(len(ids)))
    images = torch.from_numpy(arrays["x_train"]).permute(0, 3, 1, 2)
    if data["name"] == "oasis_volumes":  # one row a session, where the npz has one a slice
        # reversed: of the slices of a session the first stays
        first = {id: row for row, id in reversed(list(enumerate(ids)))}
        ids = [row["id"] for row in read_manifest(data["root"])]
        rows = [first[id] for id in ids]
        affines = np.array([arrays["volumes"][id]["array_affine"] for id in ids])
        folder = Path(data["root"]) / "oasis" / "volumes"
        images = torch.from_numpy(np.stack([read_npy(folder / f"{id}.npy") for id in ids]))
    by_row = {name: arrays[name][rows] for name in ("age", "cdr")}
    directions = directions_of(data, images.shape[1:])
    assert directions is not None
    return Cohort(images, ids, affines=affines, settings=arrays["settings"], directions=directions, **by_row)


def show_brains(
    saved: SavedModel, cohort: Cohort, output: Path, tracker: Tracker, *, n: int = 64, sampler: str = "", seed: int = 0
) -> list[Path]:
    """Draw `n` brains from a model trained on `cohort`, track figures of them, and return the NIfTI files in `output`.

    The folder appears when it is whole. `sampler` is a name, empty for the model's best.
    """
    rows = rows_of(saved.splits().train, cohort.images)
    images = saved.decode(saved.sampler(sampler or None).sample(n, Generator().manual_seed(seed)))
    matches = [rows[i] for i in nearest_rows(images, cohort.images[rows])]
    _track_samples(tracker, cohort, rows, images, matches)
    mu = saved.encode(cohort.images).mu
    latent_map = mri_samples.latent_map_of_cohort(mu, ages=cohort.age.tolist(), cdr=cohort.cdr.tolist())
    tracker.figure("brains/latent_age_cdr.png", latent_map)
    about = {"Sampler": sampler or saved.meta.get("best_sampler"), "Seed": seed, "Model": saved.meta.get("model")}
    with atomic_folder(output) as folder:
        if saved.codes.log_var is not None:
            _track_geodesic(tracker, saved, cohort, rows, folder)
        files = [output / file.relative_to(folder) for file in _write(cohort, images, matches, folder, about)]
    if (output / ANIMATION).exists():
        tracker.artifact(output / ANIMATION, "brains")
    for path in files[: TRACKED + 1]:
        tracker.artifact(path, "brains/nifti")
    return files[1:]


def rows_of(part: Split, images: Tensor) -> list[int]:
    """Return the row of `images` that equals each image of `part`."""
    # a split keeps no row numbers
    by_content = {image.contiguous().numpy().tobytes(): row for row, image in enumerate(images)}
    return [by_content[image.contiguous().numpy().tobytes()] for image in part.images]


def nearest_rows(images: Tensor, real: Tensor) -> list[int]:
    """Return for each image (m, c, h, w) the row of `real` (n, c, h, w) with the nearest picture; both uint8."""
    pictures, references = (as_pictures(x).flatten(1) for x in (images, real))
    return [int(i) for i in nearest(pictures, references).indices]


def geodesic(metric: LatentMetric, mu: Tensor, start: int, end: int) -> Tensor:
    """Return the geodesic (FRAMES, d) between two codes of (n, d), its points at equal Euclidean distances.

    The shortest path in the graph of neighbours is the start of a minimisation of the energy.
    """
    graph = neighbour_graph(metric, mu, n_neighbours=min(10, len(mu) - 1))
    curve = refine(metric, mu, distances_from(graph, start), torch.tensor([end]))[1]
    return resample(curve, FRAMES)[0]


def young_and_old(cohort: Cohort, rows: list[int]) -> tuple[int, int]:
    """Return the positions in `rows` of the youngest, and of the oldest with the highest CDR."""
    age = np.nan_to_num(cohort.age[rows], nan=50.0)  # unknown: neither the youngest nor the oldest
    grade = np.nan_to_num(cohort.cdr[rows], nan=-1.0)
    return int(age.argmin()), int(np.lexsort((age, grade))[-1])


def _track_samples(tracker: Tracker, cohort: Cohort, rows: list[int], images: Tensor, matches: list[int]) -> None:
    """Track samples beside their nearest training brains, their mean and deviation beside those of the cohort."""
    is_volume = len(images[0]) > 1
    real, drawn = (as_pictures(x)[:, 0].numpy() for x in (cohort.images[rows], images))
    shown = matches[: 4 if is_volume else 8]  # the three planes of a volume are a wide picture
    beside = as_pictures(cohort.images[shown])[:, 0].numpy()
    names = [cohort.ids[row] for row in shown]
    figure = mri_samples.real_versus_generated(drawn[: len(shown)], beside, names, cohort.directions)
    tracker.figure("brains/real_versus_generated.png", figure)
    tracker.figure("brains/mean_and_sd_generated.png", figures.mean_and_sd(drawn, cohort.directions))
    tracker.figure("brains/mean_and_sd_real.png", figures.mean_and_sd(real, cohort.directions))
    if is_volume:
        volume = cohort.volume(images[0], matches[0])
        views = figures.orthogonal_views(middle_planes(volume), volume.affine, title="drawn")
        tracker.figure("brains/orthogonal.png", views)
        tracker.text("brains/viewer.html", viewer_page(volume, "drawn"))


def _track_geodesic(tracker: Tracker, saved: SavedModel, cohort: Cohort, rows: list[int], folder: Path) -> None:
    """Write the geodesic from a young brain to an old one as an animation; track a strip above the straight line."""
    sampler = saved.sampler("riemannian")
    assert isinstance(sampler, RiemannianSampler)
    metric = sampler.metric
    start, end = young_and_old(cohort, rows)
    mu = saved.codes.mu.to(metric.dtype)  # float64 where posteriors are narrow compared with the codes
    curve = geodesic(metric, mu, start, end)
    line = straight(mu[[start]], mu[[end]], FRAMES)[0]
    frames, plain = (as_pictures(saved.decode(z)) for z in (curve, line))
    scale = max(1, round(200 / frames.shape[2]))
    larger = frames[:, 0].numpy().repeat(scale, 1).repeat(scale, 2)
    (folder / ANIMATION).write_bytes(mri_samples.interpolation_gif(larger, cohort.directions))
    evenly = torch.linspace(0, FRAMES - 1, STRIP).round().long()
    strip = mri_samples.geodesic_strip(frames[evenly, 0].numpy(), plain[evenly, 0].numpy(), cohort.directions)
    tracker.figure("brains/geodesic_above_straight_line.png", strip)
    tracker.tags({"geodesic": f"{cohort.ids[rows[start]]} to {cohort.ids[rows[end]]}"})


def _write(cohort: Cohort, images: Tensor, matches: list[int], output: Path, about: dict[str, Any]) -> list[Path]:
    """Write a description, and every image as a BIDS derivative at the position of its nearest training brain."""
    settings = cohort.settings
    about = {"Description": "Drawn by a generative model: it shows nobody", "Units": "arbitrary", **about}
    about["SkullStripped"] = settings["stripped"] or settings["product"] in MASKED
    if images.shape[1] == 1:
        about["Plane"] = cohort.directions.caption
    files = []
    for i, (image, row) in enumerate(zip(images, matches, strict=True)):
        path = derivative_path(output, f"drawn{i:04d}", space=cohort.space, what="generated")
        files.append(write_derivative(cohort.volume(image, row), path, about, space=cohort.space))
    described = write_description(output, "Generated brains", "drawn from an autoencoder that was trained on brains")
    return [described, *files]
