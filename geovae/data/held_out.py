"""Loaders of data sets with a published training file: its last rows are held out for validation.

`<name>/<file>` holds the training images, `<name>/test_folder/*.png` the test images, if there are any.
"""

from collections.abc import Callable
from pathlib import Path

from geovae.checks import check_count
from geovae.data import npz
from geovae.data.dataset import (
    Split,
    Splits,
    check_common,
    hold_out_last,
    how_to_build,
    limit_train,
    read_test_folder,
    require_file,
)
from geovae.images.pictures import OnError


def make_loader(
    name: str,
    file: str,
    shape: tuple[int, int, int],
    originals: str,
    read: Callable[[Path], Split],
    divide: Callable[[Split, int], tuple[Split, Split]] = hold_out_last,
) -> Callable[..., Splits]:
    """Return the loader of the data set `name`.

    Args:
        name: of the data set and of its folder.
        file: of the training images.
        shape: (c, h, w) of every image.
        originals: what the file is built from, for messages.
        read: returns all images of the file.
        divide: returns the images to train on and those to validate on, for a number of rows.
    """

    def load(
        *,
        root: str = "data_folders",
        seed: int = 0,
        train_size: int | None = None,
        val_size: int = 10_000,
        test_images: bool = True,
        on_error: OnError = "fail",
    ) -> Splits:
        """Return the data set: the last `val_size` rows of the file for validation, the rows before for training.

        Args:
            root: folder that holds the data set's folder, with its file and `test_folder/*.png`.
            seed: of the subset that `train_size` draws; the full splits do not depend on it.
            train_size: keep this many training images, and a fifth as many for validation.
            val_size: rows held out at the end of the file.
            test_images: whether to read the test folder if there is one.
            on_error: whether a damaged test image is an error (`fail`) or skipped with a warning (`skip`).
        """
        check_common(seed, train_size, on_error)
        check_count(val_size=val_size)
        folder = Path(root) / name
        path = require_file(folder / file, how_to_build(name, originals), name)
        train, val = divide(read(path), val_size)
        test = read_test_folder(folder / "test_folder", shape, on_error) if test_images else None
        return limit_train(Splits(train, val, test, str(path)), train_size, seed)

    return load


def read_npz(path: Path, shape: tuple[int, int, int]) -> Split:
    """Return `x_train` (n, h, w, c) and `y_train`, labels 0 to 9, of an `.npz`."""
    images = npz.read_images(path, "x_train", shape)
    return Split(images, npz.read_labels(path, "y_train", len(images), (0, 9)))
