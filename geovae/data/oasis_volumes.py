"""Whole brains: `oasis/volumes/<id>.npy`, uint8 (x, y, z), and `oasis/manifest.csv`, as `prepare` writes them.

A volume is stored as an image whose channels are its sagittal planes, so that it fits every function of images: the
networks `conv3d` and `mlp` encode it, and figures and scores use its three middle planes (`as_pictures`).
"""

import csv
from pathlib import Path

import numpy as np
import torch

from geovae.data.dataset import (
    DataSet,
    MissingData,
    Split,
    Splits,
    check_common,
    check_fractions,
    limit_train,
    random_splits,
    require_file,
)
from geovae.files import read_npy

SHAPE = (44, 52, 44)  # T88's field of view at 4 mm, to plan with; files of another size load too
HOW = (
    "make them with geovae.mri.prepare, its `arrays` npy, its `arrays_spacing` 4 (mm): one array a session, uint8 "
    "(x, y, z), and the table of sessions"
)
BUILD = {"arrays": "npy", "arrays_spacing": 4}  # options of `prepare`


def load(
    *,
    root: str = "data_folders",
    seed: int = 0,
    train_size: int | None = None,
    val_fraction: float = 1 / 6,
    test_fraction: float = 0.0,
) -> Splits:
    """Return seeded splits of the volumes by subject, stratified by label: images (n, x, y, z).

    Args:
        root: folder that holds `oasis/volumes` and `oasis/manifest.csv`.
        seed: of the splits and of the subset that `train_size` draws.
        train_size: keep this many training volumes, and a fifth as many for validation.
        val_fraction: share of the subjects for validation.
        test_fraction: share of the subjects for the test; 0 gives no test split.
    """
    check_common(seed, train_size)
    check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
    folder = Path(root) / "oasis"
    if not (folder / "volumes").is_dir():
        raise MissingData(f"`{folder / 'volumes'}` does not exist: {HOW}", "oasis", BUILD)
    rows = _rows(require_file(folder / "manifest.csv", HOW, "oasis", **BUILD))
    volumes = [_volume(folder / "volumes" / f"{row['id']}.npy") for row in rows]
    shapes = {volume.shape for volume in volumes}
    if len(shapes) != 1:
        raise ValueError(
            f"the volumes of `{folder / 'volumes'}` have mixed shapes, {sorted(shapes)}: prepare them again"
        )
    labels = torch.tensor([int(row["label"]) for row in rows])
    splits = random_splits(
        Split(torch.from_numpy(np.stack(volumes)), labels),
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        source=str(folder / "volumes"),
        groups=np.array([row["subject"] for row in rows]),
    )
    return limit_train(splits, train_size, seed)


DATASET = DataSet(load, image_shape=SHAPE, extractor="trained")


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the table's rows, one a session."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"id", "subject", "label"} <= rows[0].keys():
        raise ValueError(f"`{path}` must have the columns id, subject, label and at least one row: {HOW}")
    return rows


def _volume(path: Path) -> np.ndarray:
    """Return one array, uint8 (x, y, z)."""
    volume = read_npy(require_file(path, HOW, "oasis", **BUILD))
    if volume.dtype != np.uint8 or volume.ndim != 3:
        raise ValueError(f"`{path}` must hold uint8 (x, y, z), got {volume.dtype} {volume.shape}")
    return volume
