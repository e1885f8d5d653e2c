"""Slices of brain volumes: `oasis/OASIS.npz`, x_train (416, 208, 176, 1), each image from 0 to 255, and y_train.

A file of `geovae.mri.prepare` (it has an array `settings`) may hold slices of another size.

The published recipe validates on the 416 images that it trains on. By default they are split, and by subject if the
file has `ids` (one a row, such as OAS1_0001_MR1: the subject is the part before `_MR`).
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geovae.checks import check_choice
from geovae.data import npz
from geovae.data.dataset import (
    DataSet,
    Split,
    SplitRule,
    Splits,
    check_common,
    check_fractions,
    limit_train,
    random_splits,
    require_file,
)

SHAPE = (1, 208, 176)
HOW = (
    "make it from OASIS-1's discs with geovae.mri.prepare(source, root): `x_train` "
    "(n, 208, 176, 1), an axial plane of each T88_111 volume after numpy.rot90, scaled to 0 and 255, and `y_train`, "
    "one number a row"
)


def load(
    *,
    root: str = "data_folders",
    seed: int = 0,
    train_size: int | None = None,
    split: SplitRule = "disjoint",
    val_fraction: float = 1 / 6,
    test_fraction: float = 0.0,
) -> Splits:
    """Return seeded splits of the slices, stratified by label.

    Args:
        root: folder that holds `oasis/OASIS.npz`.
        seed: of the splits and of the subset that `train_size` draws.
        train_size: keep this many training images, and a fifth as many for validation.
        split: `published_overlapping` trains on all images and validates on the same.
        val_fraction: share of the subjects for validation; not used with `published_overlapping`.
        test_fraction: share of the subjects for the test; 0 gives no test split.
    """
    check_common(seed, train_size)
    check_choice("split", split, ("disjoint", "published_overlapping"))
    check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
    path = require_file(Path(root) / "oasis" / "OASIS.npz", HOW, "oasis")
    images = npz.read_images(path, "x_train", None if "settings" in npz.keys(path) else SHAPE)
    _check_extremes(images, path)
    data = Split(images, class_numbers(npz.read_array(path, "y_train"), len(images), f"`y_train` of `{path}`"))
    if split == "published_overlapping":
        return limit_train(Splits(data, data, None, str(path)), train_size, seed)
    splits = random_splits(
        data,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        source=str(path),
        groups=_subjects(path, len(images)),
    )
    return limit_train(splits, train_size, seed)


DATASET = DataSet(load, image_shape=SHAPE, extractor="trained")


def class_numbers(labels: np.ndarray, n: int, where: str) -> Tensor:
    """Return labels (n,) as int64 (n,): whole numbers as they are; grades (CDR 0, 0.5, 1) by rank; -1 stays -1."""
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels % 1).any():
        grades = np.unique(labels[labels >= 0])
        labels = np.where(labels >= 0, np.searchsorted(grades, labels), -1)
    return npz.check_labels(labels, n, None, where)


def _check_extremes(images: Tensor, path: Path) -> None:
    """Raise ValueError unless every image reaches both 0 and 255, as the published slices do."""
    low, high = images.flatten(1).aminmax(dim=1)
    wrong = torch.nonzero((low != 0) | (high != 255)).flatten().tolist()
    if wrong:
        rows = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise ValueError(
            f"each image of `{path}` must have minimum 0 and maximum 255; {len(wrong)} do not (rows {rows})"
        )


def _subjects(path: Path, n: int) -> np.ndarray | None:
    """Return the subject of each row (n,), or None if the file has no `ids`."""
    if "ids" not in npz.keys(path):
        return None
    ids = npz.read_array(path, "ids")
    if ids.shape != (n,) or ids.dtype.kind != "U":
        raise ValueError(f"`ids` of `{path}` must hold {n} strings, got {ids.dtype} of shape {ids.shape}")
    return np.array([name.split("_MR")[0] for name in ids])
