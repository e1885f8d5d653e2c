"""CIFAR-10: `cifar/cifar_10.npz` and, if they exist, the PNG test images beside it."""

from pathlib import Path

from geovae.checks import check_choice, check_count
from geovae.data import npz
from geovae.data.dataset import DataSet, SplitRule, check_common, how_to_build, read_test_folder, require_file
from geovae.data.splits import Split, Splits, hold_out_last, limit_train
from geovae.images.pictures import OnError

SHAPE = (3, 32, 32)


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
    check_common(seed, train_size, on_error)
    check_count(val_size=val_size)
    check_choice("split", split, ("disjoint", "published_overlapping"))
    folder = Path(root) / "cifar"
    path = require_file(folder / "cifar_10.npz", how_to_build("cifar", "the python or binary batches"), "cifar")
    images = npz.read_images(path, "x_train", SHAPE)
    data = Split(images, npz.read_labels(path, "y_train", len(images), (0, 9)))
    train, val = hold_out_last(data, val_size)
    if split == "published_overlapping":
        val = data[val_size:]
    test = read_test_folder(folder / "test_folder", SHAPE, on_error) if test_images else None
    return limit_train(Splits(train, val, test, str(path)), train_size, seed)


DATASET = DataSet(load, image_shape=SHAPE)
