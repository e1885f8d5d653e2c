"""CIFAR-10: `cifar/cifar_10.npz` and, if they exist, the PNG test images beside it."""

from collections.abc import Callable
from functools import partial

from geovae.checks import check_choice
from geovae.data.dataset import DataSet, Split, SplitRule, Splits, hold_out_last
from geovae.data.held_out import make_loader, read_npz
from geovae.images.pictures import OnError

SHAPE = (3, 32, 32)


def _overlap(data: Split, val_size: int) -> tuple[Split, Split]:
    """Return the published splits: all but the last rows, and all but the first."""
    return hold_out_last(data, val_size)[0], data[val_size:]


DIVIDE: dict[str, Callable[[Split, int], tuple[Split, Split]]] = {
    "disjoint": hold_out_last,
    "published_overlapping": _overlap,
}
READ = partial(read_npz, shape=SHAPE)
LOADERS = {
    rule: make_loader("cifar", "cifar_10.npz", SHAPE, "the python or binary batches", READ, divide)
    for rule, divide in DIVIDE.items()
}


def load(
    *,
    root: str = "data_folders",
    seed: int = 0,
    train_size: int | None = None,
    split: SplitRule = "disjoint",
    val_size: int = 10_000,
    test_images: bool = True,
    on_error: OnError = "fail",
) -> Splits:
    """Return CIFAR-10: the last `val_size` rows of the file for validation, the rows before them for training.

    Args:
        root: folder that holds `cifar/cifar_10.npz` and `cifar/test_folder/*.png`.
        seed: of the subset that `train_size` draws; the full splits do not depend on it.
        train_size: keep this many training images, and a fifth as many for validation.
        split: `published_overlapping` validates on all rows from number `val_size` on, as the published code did;
            most of these rows are training images too.
        val_size: rows held out at the end of the file.
        test_images: whether to read the test folder if there is one.
        on_error: whether a damaged test image is an error (`fail`) or skipped with a warning (`skip`).
    """
    check_choice("split", split, LOADERS)
    return LOADERS[split](
        root=root, seed=seed, train_size=train_size, val_size=val_size, test_images=test_images, on_error=on_error
    )


DATASET = DataSet(load, image_shape=SHAPE, extractor="trained")
