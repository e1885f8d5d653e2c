"""What a data set is to its users, and what loaders and builders share: checks of options, and how to miss a file.

Options are checked before any file is opened.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from geovae.checks import check_choice, check_count
from geovae.data.splits import Split, Splits
from geovae.images.pictures import OnError, list_images, read_files

SplitRule = Literal["disjoint", "published_overlapping"]


@dataclass(frozen=True)
class DataSet:
    """A loader, and what is known of its images before it is called; calling it loads.

    Attributes:
        load: keyword arguments in, `Splits` out; its signature and docstring are the data set's options.
        image_shape: (c, h, w), None where it depends on the files.
    """

    load: Callable[..., Splits]
    image_shape: tuple[int, int, int] | None

    def __call__(self, **options: Any) -> Splits:
        """Return the splits for `options`."""
        return self.load(**options)

    @property
    def reads_files(self) -> bool:
        """Whether the images come from files below an option `root`; the others are drawn or come with a package."""
        return "root" in inspect.signature(self.load).parameters


class MissingData(FileNotFoundError):
    """Files of a data set that are not there, but that `geovae.data.builders` or `geovae.mri` can build.

    Attributes:
        dataset: name of what is to be built.
        options: of the builder, beside source and root.
    """

    def __init__(self, message: str, dataset: str = "", options: Mapping[str, Any] | None = None) -> None:
        """Keep `message` as the only argument of the exception, so that it survives pickling between processes."""
        super().__init__(message)
        self.dataset = dataset
        self.options = dict(options or {})


def check_common(seed: int, train_size: int | None, on_error: str = "fail") -> None:
    """Check the options that every loader has.

    Raises:
        ValueError: for a negative seed, a `train_size` below 1 or an unknown `on_error`.
    """
    check_count(low=0, seed=seed)
    if train_size is not None:
        check_count(train_size=train_size)
    check_choice("on_error", on_error, ("fail", "skip"))


def check_fractions(**fractions: float) -> None:
    """Raise ValueError unless every fraction lies in [0, 1) and they leave something for training."""
    for name, value in fractions.items():
        if not 0.0 <= value < 1.0:  # written so that NaN fails too
            raise ValueError(f"`{name}` must lie in [0, 1), got {value!r}")
    if sum(fractions.values()) >= 1.0:
        names = " + ".join(f"`{name}`" for name in fractions)
        raise ValueError(f"{names} must be below 1, got {sum(fractions.values()):g}: nothing is left to train on")


def require_file(path: Path, how: str, dataset: str = "", **options: Any) -> Path:
    """Return `path` if it is a file.

    Raises:
        FileNotFoundError: naming the path expected and `how` to make the file; a `MissingData` where it can be built as
            `dataset`, with the `options` of its builder.
    """
    if path.is_file():
        return path
    what = "is a folder, not a file" if path.is_dir() else "does not exist"
    message = f"`{path}` {what}: {how}"
    raise MissingData(message, dataset, options) if dataset else FileNotFoundError(message)


def how_to_build(dataset: str, originals: str) -> str:
    """Return the sentence that says what builds the files of `dataset` from its `originals`."""
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
