"""Your own images: a folder of image files, or one `.npz` with `x_train` (n, h, w, c) in 0..255.

Sub-folders of the folder are classes, numbered in the order of their names. A `.npz` may have a `test_folder` of PNG
images beside it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from geovae.data import npz
from geovae.data.dataset import (
    DataSet,
    Split,
    Splits,
    check_common,
    check_fractions,
    limit_train,
    random_splits,
    read_test_folder,
)
from geovae.images.pictures import REMEDY, OnError, Prepare, check_side, list_images, read_files


def load(
    *,
    root: str = "data_folders",
    seed: int = 0,
    train_size: int | None = None,
    path: str = "folder",
    size: int | None = None,
    channels: Literal[1, 3] | None = None,
    val_fraction: float = 0.14,
    test_fraction: float = 0.16,
    on_error: OnError = "fail",
) -> Splits:
    """Return seeded splits of the images, stratified by class where there are classes.

    Args:
        root: folder that `path` starts from.
        seed: of the splits and of the subset that `train_size` draws.
        train_size: keep this many training images, and a fifth as many for validation.
        path: the folder of images, or the `.npz`, below `root` or absolute.
        size: crop each image of a folder to its central square and resize it to `size` x `size`; by default all images
            must have the same size.
        channels: convert the images of a folder to gray (1) or colour (3); by default all must have the same channels.
        val_fraction: share of the images for validation.
        test_fraction: share of the images for the test; not used if there is a test folder.
        on_error: whether a damaged image is an error (`fail`) or skipped with a warning (`skip`).
    """
    check_common(seed, train_size, on_error)
    check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
    check_side(size)
    if channels not in (None, 1, 3):
        raise ValueError(f"`channels` must be 1 or 3, got {channels!r}")
    source = Path(root) / path
    if source.suffix == ".npz" and source.is_file():
        data, test = _read_npz(source, on_error)
    elif source.is_dir():
        data, _ = read_folder(source, list_images(source), size=size, channels=channels, on_error=on_error)
        test = None
    else:
        raise FileNotFoundError(f"`{source}` does not exist: put a folder of images or a .npz there, or pass `path`")
    splits = random_splits(
        data, val_fraction=val_fraction, test_fraction=0.0 if test else test_fraction, seed=seed, source=str(source)
    )
    return limit_train(Splits(splits.train, splits.val, test or splits.test, str(source)), train_size, seed)


DATASET = DataSet(load, image_shape=None, extractor="trained")


def read_folder(
    folder: Path,
    files: Sequence[Path],
    *,
    size: int | None,
    channels: Literal[1, 3] | None,
    on_error: OnError,
    progress: bool = False,
) -> tuple[Split, list[Path]]:
    """Return the images of the `files` below `folder`, and the file of each image.

    If the images lie in two or more folders, the label is the number of the folder, in the order of names.

    Raises:
        ValueError: if files are damaged or differ in size or channels, or if all images are the same.
    """
    images, rows = read_files(
        files,
        where=folder,
        on_error=on_error,
        prepare=Prepare(size, channels),
        remedy=f"`size` and `channels` make images alike. {REMEDY}",
        progress=progress,
    )
    if len(images) > 1 and bool((images == images[:1]).all()):
        raise ValueError(
            f"the {len(images)} images in `{folder}` are all the same: there is nothing to learn from them"
        )
    used = [files[row] for row in rows]
    classes = [path.parent for path in used]
    names = sorted(set(classes))
    labels = torch.tensor([names.index(c) for c in classes]) if len(names) > 1 else None
    return Split(images, labels), used


def _read_npz(path: Path, on_error: OnError) -> tuple[Split, Split | None]:
    """Return the images of a `.npz`, with labels if it has `y_train`, and of the test folder beside it."""
    images = npz.read_images(path, "x_train")
    labels = npz.read_labels(path, "y_train", len(images)) if "y_train" in npz.keys(path) else None
    data = Split(images, labels)
    _, c, h, w = images.shape
    return data, read_test_folder(path.parent / "test_folder", (c, h, w), on_error)
