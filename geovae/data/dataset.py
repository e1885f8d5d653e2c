"""What a data set is and what loaders share: `Splits`, how they are drawn, checks of options, errors for missing files.

Images are uint8 (n, c, h, w), a quarter of the memory of float32; `to_float` converts each batch on its device. Options
are checked before any file is opened.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from geovae.checks import check_choice, check_count
from geovae.images import check_images
from geovae.images.pictures import OnError, list_images, read_files


@dataclass(frozen=True, eq=False)
class Split:
    """Images, uint8 (n, c, h, w), and their labels, int64 (n,), or None where there are none."""

    images: Tensor
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        """Check shapes and types."""
        check_images(self.images)
        if self.images.dtype != torch.uint8:
            raise ValueError(f"a split holds uint8 images, got {self.images.dtype}: use geovae.images.to_uint8")
        if self.labels is None:
            return
        if self.labels.dtype != torch.int64 or self.labels.shape != (len(self.images),):
            raise ValueError(
                f"labels must be int64 of shape ({len(self.images)},), one for each image, "
                f"got {self.labels.dtype} of shape {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, rows: Tensor | slice) -> "Split":
        """Return the split of the chosen `rows`: a slice makes views, an index tensor copies."""
        return Split(self.images[rows], None if self.labels is None else self.labels[rows])


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a data set; `test` is None where the layout has no test images.

    `source` is where the images come from: a path, or the name of the function that made them.
    """

    train: Split
    val: Split
    test: Split | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Check that all parts have images of one shape."""
        for name, part in self.parts().items():
            if part.images.shape[1:] != self.train.images.shape[1:]:
                got, expected = tuple(part.images.shape[1:]), tuple(self.train.images.shape[1:])
                raise ValueError(f"the {name} images are {got}, the training images are {expected}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (c, h, w) of every image."""
        c, h, w = self.train.images.shape[1:]
        return c, h, w

    def parts(self) -> dict[str, Split]:
        """Return the splits that exist, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}

    @cached_property
    def digest(self) -> str:
        """Hash of shapes, images and labels of all parts: the same content gives the same 32 hex digits."""
        total = hashlib.sha256()
        for name, part in self.parts().items():
            total.update(f"{name} {tuple(part.images.shape)} {part.labels is not None};".encode())
            for start in range(0, len(part), 4096):  # by chunks, because a strided view is copied to be hashed
                total.update(part.images[start : start + 4096].contiguous().numpy().data)
            if part.labels is not None:
                total.update(part.labels.contiguous().numpy().data)
        return total.hexdigest()[:32]


def hold_out_last(data: Split, n: int, name: str = "val_size") -> tuple[Split, Split]:
    """Return all but the last `n` images, and the last `n`, as views.

    Raises:
        ValueError: if `n` leaves no image to train on.
    """
    if not 1 <= n < len(data):
        raise ValueError(f"`{name}` must be between 1 and {len(data) - 1} for {len(data)} images, got {n}")
    return data[: len(data) - n], data[len(data) - n :]


def stratified_rows(classes: np.ndarray, fractions: dict[str, float], seed: int) -> dict[str, Tensor]:
    """Draw disjoint rows for each name, every class in proportion to within one row; `train` gets the rest.

    Args:
        classes: (n,) the class of each row, of any sortable type.
        fractions: share of the rows for each name other than `train`.
        seed: of the draw.

    Returns:
        For each name, and for `train`, sorted row numbers, int64.
    """
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    order = shuffled[np.argsort(classes[shuffled], kind="stable")]  # class by class, each in random order
    counts = np.unique(classes, return_counts=True)[1]
    ends = np.cumsum(counts)
    chosen: dict[str, list[np.ndarray]] = {name: [] for name in [*fractions, "train"]}
    drawn = dict.fromkeys(fractions, 0)
    for start, end in zip(ends - counts, ends, strict=True):
        for name, fraction in fractions.items():
            # The running total is rounded, not the number of each class: small classes would all round to 0.
            quota = min(round(fraction * int(end)) - drawn[name], int(end - start))
            chosen[name].append(order[start : start + quota])
            drawn[name] += quota
            start += quota
        chosen["train"].append(order[start:end])
    return {name: torch.from_numpy(np.sort(np.concatenate(rows))) for name, rows in chosen.items()}


def random_splits(
    data: Split, *, val_fraction: float, test_fraction: float, seed: int, source: str, groups: np.ndarray | None = None
) -> Splits:
    """Return seeded splits of `data`, stratified by label; rows of one group (n,), such as a subject, stay together.

    Raises:
        ValueError: if a split would be empty, but for a test split of fraction 0.
    """
    groups = np.arange(len(data)) if groups is None else groups
    _, first, group_of_row = np.unique(groups, return_index=True, return_inverse=True)
    classes = np.zeros(len(first), np.int64) if data.labels is None else data.labels.numpy()[first]
    drawn = stratified_rows(classes, {"val": val_fraction, "test": test_fraction}, seed)
    parts: dict[str, Split | None] = {"test": None}
    for name, members in drawn.items():
        rows = torch.from_numpy(np.flatnonzero(np.isin(group_of_row, members.numpy())))
        if len(rows):
            parts[name] = data[rows]
        elif name != "test" or test_fraction > 0:
            raise ValueError(f"{len(data)} images are too few: the {name} split is empty; raise its fraction")
    train, val = parts["train"], parts["val"]
    assert train is not None
    assert val is not None
    return Splits(train, val, parts["test"], source)


def limit_train(splits: Splits, train_size: int | None, seed: int) -> Splits:
    """Keep `train_size` training images, and a fifth as many (or all) for validation; None keeps everything.

    With one seed the subsets are nested: the images kept for 1,000 are among those kept for 5,000.

    Raises:
        ValueError: if there are fewer training images.
    """
    if train_size is None:
        return splits
    if train_size > len(splits.train):
        raise ValueError(f"`train_size` must be at most {len(splits.train)}, the training images; got {train_size}")
    val_size = max(1, min(round(train_size / 5), len(splits.val)))
    return replace(splits, train=_subsample(splits.train, train_size, seed), val=_subsample(splits.val, val_size, seed))


def _subsample(part: Split, n: int, seed: int) -> Split:
    """Return `n` rows of a split, in its order."""
    # The first rows of one permutation, which depends on the seed only: subsets of several sizes are nested.
    rows = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))[:n]
    return part[rows.sort().values]


SplitRule = Literal["disjoint", "published_overlapping"]


@dataclass(frozen=True)
class DataSet:
    """A loader, and what is known about its images before it runs; a call runs the loader.

    Attributes:
        load: takes keyword arguments and returns `Splits`; its signature and docstring define the options.
        image_shape: (c, h, w), None where it depends on the files.
        extractor: the features that scores compare by default, a name of `geovae.evaluation.EXTRACTORS`; "trained" for
            those of a classifier of the training split, where it has labels; None for what no data set needs.
    """

    load: Callable[..., Splits]
    image_shape: tuple[int, int, int] | None
    extractor: str | None = None

    def __call__(self, **options: Any) -> Splits:
        """Return the splits for `options`."""
        return self.load(**options)


class MissingData(FileNotFoundError):
    """Files of a data set are missing, and `geovae.data.builders` or `geovae.mri` can build them.

    Attributes:
        dataset: the data set to build.
        options: options for the builder, besides source and root.
    """

    def __init__(self, message: str, dataset: str = "", options: Mapping[str, Any] | None = None) -> None:
        """Keep what the caller needs to name the command that builds the files."""
        super().__init__(message)  # the only argument: the exception is pickled when it crosses processes
        self.dataset = dataset
        self.options = dict(options or {})


def check_common(seed: int, train_size: int | None, on_error: str = "fail") -> None:
    """Check the options that every loader shares.

    Raises:
        ValueError: for a negative seed, a `train_size` below 1 or an unknown `on_error`.
    """
    check_count(low=0, seed=seed)
    if train_size is not None:
        check_count(train_size=train_size)
    check_choice("on_error", on_error, ("fail", "skip"))


def check_fractions(**fractions: float) -> None:
    """Raise ValueError unless every fraction lies in [0, 1) and their sum is below 1."""
    for name, value in fractions.items():
        if not 0.0 <= value < 1.0:  # written so that NaN fails too
            raise ValueError(f"`{name}` must lie in [0, 1), got {value!r}")
    if sum(fractions.values()) >= 1.0:
        names = " + ".join(f"`{name}`" for name in fractions)
        raise ValueError(f"{names} must be below 1, got {sum(fractions.values()):g}: nothing is left to train on")


def require_file(path: Path, how: str, dataset: str = "", **options: Any) -> Path:
    """Return `path` if it is a file.

    Raises:
        FileNotFoundError: otherwise, with the path and `how` to make the file; `MissingData` if a builder of `dataset`
            can make it, with these `options`.
    """
    if path.is_file():
        return path
    what = "is a folder, not a file" if path.is_dir() else "does not exist"
    message = f"`{path}` {what}: {how}"
    raise MissingData(message, dataset, options) if dataset else FileNotFoundError(message)


def how_to_build(dataset: str, originals: str) -> str:
    """Return the part of an error message that names the builder of `dataset` and its `originals`."""
    return f"build it from {originals} with geovae.data.builders.BUILDERS[{dataset!r}](source, root)"


def read_test_folder(folder: Path, shape: tuple[int, int, int], on_error: OnError) -> Split | None:
    """Return the images of a test folder, all of `shape` (c, h, w), or None if there is no such folder.

    Raises:
        FileNotFoundError: if the folder holds no images.
        ValueError: for damaged files or images of another shape.
    """
    if not folder.is_dir():
        return None
    return Split(read_files(list_images(folder), where=folder, shape=shape, on_error=on_error)[0])
