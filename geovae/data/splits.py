"""What a loader returns, and how a data set is split: hold out the last rows, draw stratified splits, subsample.

Images are uint8 (n, c, h, w), a quarter of the memory of float32; `to_float` converts each batch on its device.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from geovae.images import check_images


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
