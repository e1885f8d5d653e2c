"""MNIST padded to 32x32: `mnist/mnist_32x32.npz` and, if they exist, the PNG test images beside it."""

from pathlib import Path

from geovae.checks import check_count
from geovae.data import npz
from geovae.data.dataset import DataSet, check_common, how_to_build, read_test_folder, require_file
from geovae.data.splits import Split, Splits, hold_out_last, limit_train
from geovae.images.pictures import OnError

SHAPE = (1, 32, 32)


def load(
    *,
    root: str = "data_folders",
    seed: int = 0,
    train_size: int | None = None,
    val_size: int = 10_000,
    test_images: bool = True,
    on_error: OnError = "fail",
) -> Splits:
    """Return MNIST: the last `val_size` rows of the file for validation, the rows before them for training.

    Args:
        root: folder that holds `mnist/mnist_32x32.npz` and `mnist/test_folder/*.png`.
        seed: of the subset that `train_size` draws; the full splits do not depend on it.
        train_size: keep this many training images, and a fifth as many for validation.
        val_size: rows held out at the end of the file.
        test_images: whether to read the test folder if there is one.
        on_error: whether a damaged test image is an error (`fail`) or skipped with a warning (`skip`).
    """
    check_common(seed, train_size, on_error)
    check_count(val_size=val_size)
    folder = Path(root) / "mnist"
    path = require_file(folder / "mnist_32x32.npz", how_to_build("mnist", "the four idx files (.gz or not)"), "mnist")
    images = npz.read_images(path, "x_train", SHAPE)
    labels = npz.read_labels(path, "y_train", len(images), (0, 9))
    train, val = hold_out_last(Split(images, labels), val_size)
    test = read_test_folder(folder / "test_folder", SHAPE, on_error) if test_images else None
    return limit_train(Splits(train, val, test, str(path)), train_size, seed)


DATASET = DataSet(load, image_shape=SHAPE)
