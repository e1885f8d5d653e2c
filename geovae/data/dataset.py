"""The type of a data set, and what loaders and builders share: checks of options and the errors for missing files.

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

    @property
    def reads_files(self) -> bool:
        """Whether the images come from files below `root`; other data sets are drawn or come with a package."""
        return "root" in inspect.signature(self.load).parameters


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
