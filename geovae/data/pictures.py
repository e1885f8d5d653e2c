"""Folders of image files (PNG, JPEG and what else Pillow reads), decoded to uint8 (n, c, h, w).

Files that cannot be read are named and counted: in one error, or in one warning where they are skipped.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from geovae.data.dataset import OnError
from geovae.data.progress import track
from geovae.data.splits import Split

if TYPE_CHECKING:
    from PIL.Image import Image

S = TypeVar("S")
R = TypeVar("R")
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
GRAY, COLOUR = {"1", "L"}, {"P", "RGB"}  # modes of Pillow that have 8 bits a channel and no transparency


def list_images(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the image files that match `pattern`, sorted by path; hidden files are left out."""
    files = (p for p in folder.glob(pattern) if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(files)


def require_images(files: Sequence[Path], where: Path) -> None:
    """Raise ValueError if there are no image files."""
    if not files:
        raise ValueError(f"`{where}` holds no images ({', '.join(sorted(SUFFIXES))})")


def read_test_folder(folder: Path, shape: tuple[int, int, int], on_error: OnError) -> Split | None:
    """Return the PNG images of a test folder, all of `shape` (c, h, w), or None if there is no such folder.

    Raises:
        ValueError: if the folder is empty, or holds damaged files or images of another shape.
    """
    if not folder.is_dir():
        return None
    images, _ = read_images(list_images(folder, "*.png"), shape, on_error, where=folder)
    return Split(images)


def read_images(
    files: Sequence[Path],
    shape: tuple[int, int, int],
    on_error: OnError,
    *,
    where: Path,
    prepare: Callable[[np.ndarray], np.ndarray] | None = None,
    hint: str = "",
    progress: bool = False,
) -> tuple[Tensor, list[int]]:
    """Decode `files` into uint8 (n, c, h, w).

    Args:
        files: images; their order is kept.
        shape: the (c, h, w) of every image, after `prepare`.
        on_error: `fail` or `skip` files that cannot be decoded or do not fit.
        where: the folder, for messages.
        prepare: turns a decoded (h, w) or (h, w, 3) array into the one that is kept.
        hint: a remedy to name in the error.
        progress: whether to show a bar.

    Returns:
        The images, and the positions in `files` that they come from.

    Raises:
        ValueError: if there are no images, or files are bad and `on_error` is `fail`.
    """
    require_images(files, where)
    images = np.empty((len(files), *shape), np.uint8)
    kept: list[int] = []
    bad: list[str] = []

    def decode(path: Path) -> np.ndarray:
        array = decode_image(path)
        return fit_channels(array if prepare is None else prepare(array), shape)

    for position, result in enumerate(track(in_threads(decode, files), len(files), "decoding", progress)):
        if isinstance(result, ValueError):
            bad.append(f"{files[position].name}: {result}")
        else:
            images[len(kept)] = result
            kept.append(position)
    report_bad(bad, len(files), where, on_error, hint)
    return torch.from_numpy(images[: len(kept)]), kept


def in_threads(function: Callable[[S], R], items: Sequence[S], workers: int = 4) -> Iterator[R | ValueError]:
    """Yield `function(item)` in order, or the ValueError it raised; Pillow decodes without the global lock."""

    def attempt(item: S) -> R | ValueError:
        try:
            return function(item)
        except ValueError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(items), 256):  # a block at a time: results never pile up
            yield from pool.map(attempt, items[start : start + 256])


def decode_image(path: Path) -> np.ndarray:
    """Return an image file as uint8 (h, w) if gray, (h, w, 3) if coloured.

    Raises:
        ValueError: if the file is damaged, or has more than 8 bits a channel or transparency.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode in GRAY:
                return np.asarray(image.convert("L"))
            if image.mode in COLOUR:
                return np.asarray(image.convert("RGB"))
            mode = image.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be decoded ({error})") from error
    raise ValueError(f"has mode {mode}, expected 8-bit gray or RGB")


@dataclass(frozen=True)
class Prepare:
    """What makes images alike: a central square resized to `size`, and gray (1) or colour (3) `channels`."""

    size: int | None = None
    channels: int | None = None

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Return a decoded (h, w) or (h, w, 3) image as it is kept."""
        from PIL import Image

        image = Image.fromarray(array)
        if self.channels is not None:
            image = image.convert("L" if self.channels == 1 else "RGB")
        if self.size is not None:
            image = centre_square(image, min(image.size)).resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.asarray(image)


def centre_square(image: "Image", side: int) -> "Image":
    """Return the square of `side` pixels in the middle of an image."""
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def common_shape(files: Sequence[Path], prepare: Prepare, where: Path) -> tuple[int, int, int]:
    """Return the (c, h, w) of the first file that can be decoded: the others are held against it."""
    require_images(files, where)
    for path in files:
        with suppress(ValueError):
            array = prepare(decode_image(path))
            return (1 if array.ndim == 2 else 3), array.shape[0], array.shape[1]
    raise ValueError(f"`{where}` holds no image that can be read ({len(files)} files looked at)")


def fit_channels(array: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a decoded image as (c, h, w); three equal channels pass for gray.

    Raises:
        ValueError: if size or channels are not those of `shape`.
    """
    c, h, w = shape
    if array.shape[:2] != (h, w):
        raise ValueError(f"is {array.shape[0]}x{array.shape[1]} (h x w), expected {h}x{w}")
    if array.ndim == 2 and c == 3:
        raise ValueError("is gray, expected RGB")
    if array.ndim == 3 and c == 1:
        if (array != array[:, :, :1]).any():
            raise ValueError("is coloured, expected gray")
        array = array[:, :, 0]
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def report_bad(bad: Sequence[str], n: int, where: Path, on_error: OnError, hint: str = "") -> None:
    """Warn of, or fail on, the bad files among `n`; the first five are named, all are counted."""
    if not bad:
        return
    more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
    text = f"{len(bad)} of {n} images in `{where}` cannot be used: {'; '.join(bad[:5])}{more}"
    if on_error == "fail":
        raise ValueError(f"{text}. {hint}Repair them, or pass on_error='skip' to leave them out")
    if len(bad) == n:
        raise ValueError(f"{text}. None is left")
    warnings.warn(f"{text}. They are left out", stacklevel=2)
