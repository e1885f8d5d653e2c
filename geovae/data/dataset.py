"""What a data set is to its users, and what loaders and builders share: checks of options, and how to miss a file.

Options are checked before any file is opened.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from geovae.data.splits import Splits

OnError = Literal["fail", "skip"]
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
    check_count("seed", seed)
    if train_size is not None:
        check_count("train_size", train_size, low=1)
    check_choice("on_error", on_error, ("fail", "skip"))


def check_count(name: str, value: int, low: int = 0) -> None:
    """Raise ValueError unless `value` is a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"`{name}` must be a whole number of at least {low}, got {value!r}")


def check_fractions(**fractions: float) -> None:
    """Raise ValueError unless every fraction lies in [0, 1) and they leave something for training."""
    for name, value in fractions.items():
        if not 0.0 <= value < 1.0:  # written so that NaN fails too
            raise ValueError(f"`{name}` must lie in [0, 1), got {value!r}")
    if sum(fractions.values()) >= 1.0:
        names = " + ".join(f"`{name}`" for name in fractions)
        raise ValueError(f"{names} must be below 1, got {sum(fractions.values()):g}: nothing is left to train on")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}; got {value!r}")


def require_file(path: Path, how: str) -> Path:
    """Return `path` if it is a file.

    Raises:
        FileNotFoundError: naming the path expected and `how` to make the file.
    """
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"`{path}` {what}: {how}")
    return path


def how_to_build(name: str, originals: str) -> str:
    """Return the sentence that says how the file of data set `name` is made from its `originals`."""
    return (
        f"build it from {originals} with `mlflow run . -e prepare -P dataset={name} -P source=FOLDER`, "
        f"or with geovae.data.builders.BUILDERS[{name!r}]"
    )
