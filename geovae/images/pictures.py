"""The one reader of image files and of arrays of images, to tensors (n, c, h, w).

EXIF orientation is applied, as every viewer does. An opaque alpha channel is dropped; transparent pixels (in a channel,
a palette or a PNG's `tRNS`) are refused: their colour depends on a background that is not in the file. Bad files are
counted and named in one error, or in one warning if they are skipped.
"""

import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from geovae.files import read_npy, read_npz
from geovae.images.folders import NAMED, walk_files
from geovae.images.tensors import check_images, image_grid, to_float

if TYPE_CHECKING:
    from PIL.Image import Image

S = TypeVar("S")
R = TypeVar("R")
OnError = Literal["fail", "skip"]
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
ARRAYS = (".npy", ".npz")
# Modes of Pillow. Others, such as `F`, have no fixed range of values.
GRAY, GRAY_16 = ("1", "L", "LA", "La"), ("I", "I;16", "I;16B", "I;16L", "I;16N")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
MAX_PROBED = 64  # files with three equal channels that are read before the images count as coloured
REMEDY = "Repair them, or pass on_error='skip' to leave them out"
LARGEST_SIDE = 4096  # pixels
BLOCK = 256  # files decoded before their images are joined: thousands of small tensors would fragment the memory


def list_images(path: str | Path) -> list[Path]:
    """Return the image files below the folder `path`, sorted by path; or `path` itself if it is such a file.

    Other files and hidden folders are counted and named in a warning, see `walk_files`.

    Raises:
        FileNotFoundError: if there is no such path, or no image file in it.
    """
    path = Path(path)
    if not path.is_dir() and not path.is_file():  # also a pipe, which would be waited for without end
        raise FileNotFoundError(f"no images at {path}: there is no such file or folder")
    if not path.is_dir():
        found, left_out = [path] * path.name.lower().endswith(PICTURES + ARRAYS), ""
    else:
        walked = walk_files(path, PICTURES + ARRAYS)
        found, left_out = walked.files, walked.describe_left_out(path)
    if not found:
        seen = f"; left out: {left_out}" if left_out else ""
        raise FileNotFoundError(
            f"no images at {path}: looked for {', '.join(PICTURES + ARRAYS)}, sub-folders included{seen}"
        )
    if left_out:
        warnings.warn(f"`{path}`: not read as images are {left_out}", stacklevel=2)
    return found


def read_images(path: str | Path) -> Tensor:
    """Return the images (n, c, h, w) of a file, or of a folder and its sub-folders, in the order of their paths.

    uint8 where every file is 8-bit, else float32 in [0, 1]; 16-bit images are divided by 65535. Nothing is resized.

    Raises:
        FileNotFoundError: no such path, or a folder without images.
        ValueError: unreadable files or images of mixed size or channels; the message names them.
    """
    files = list_images(path)
    return read_files(
        files, where=Path(path), eight_bit=False, remedy="Remove them, or bring all to one size and kind"
    )[0]


@dataclass(frozen=True)
class Prepare:
    """Resize the central square to `size`, and convert to gray (1) or colour (3) `channels`; None changes nothing."""

    size: int | None = None
    channels: int | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Return uint8 images (n, c, h, w), each of the wanted size and channels."""
        return images if self == Prepare() else torch.stack([self._prepare(image) for image in images])

    def _prepare(self, pixels: Tensor) -> Tensor:
        from PIL import Image

        image = Image.fromarray(image_grid(pixels[None], padding=0))
        if self.channels is not None:
            image = image.convert("L" if self.channels == 1 else "RGB")
        if self.size is not None:
            image = centre_square(image, min(image.size)).resize((self.size, self.size), Image.Resampling.BILINEAR)
        return _channels_first(np.array(image))


def read_files(
    files: Sequence[Path],
    *,
    where: Path,
    shape: tuple[int, int, int] | None = None,
    on_error: OnError = "fail",
    prepare: Prepare | None = None,
    eight_bit: bool = True,
    remedy: str = REMEDY,
    progress: bool = False,
) -> tuple[Tensor, list[int]]:
    """Read `files` into uint8 (n, c, h, w), or float32 in [0, 1] if `eight_bit` is false and a file has more bits.

    Args:
        files: pictures and arrays; their order is kept.
        where: the folder, for messages.
        shape: the (c, h, w) of every image after `prepare`; by default that of the first readable file. Three equal
            channels count as gray if other files are gray.
        on_error: `fail` on files that cannot be read or have another shape, or `skip` them.
        prepare: is applied to the images of each file.
        eight_bit: refuse files of more than 8 bits a channel.
        remedy: the last sentence of the error.
        progress: whether to show a bar.

    Returns:
        The images, and for each the position of its file in `files`.

    Raises:
        ValueError: if there are no images, or files are bad and `on_error` is `fail`.
    """

    def read(path: Path) -> Tensor:
        images = _read_file(path)
        if eight_bit and images.dtype != torch.uint8:
            raise ValueError("has more than 8 bits a channel, expected 8-bit gray or colour")
        return images if prepare is None else prepare(images)

    fitted = shape or _common_shape(files, read, where)
    results = map_in_threads(lambda path: _fit(read(path), fitted), files, title="decoding", progress=progress)
    blocks, kept, bad = [torch.empty((0, *fitted), dtype=torch.uint8)], list[int](), list[str]()
    block: list[Tensor] = []
    for position, result in enumerate(results):
        if isinstance(result, ValueError):
            bad.append(f"{_name(files[position], where)}: {result}")
        else:
            block.append(result)
            kept += [position] * len(result)
        if len(block) == BLOCK:
            blocks.append(_join(block))
    report_bad(bad, len(files), where, on_error, remedy)
    blocks.append(_join(block or [blocks[0]]))
    return _join(blocks), kept


def map_in_threads(
    function: Callable[[S], R], items: Sequence[S], *, title: str, progress: bool, workers: int = 4
) -> Iterator[R | ValueError]:
    """Yield `function(item)` in order, or the ValueError that it raised; with `progress`, show a bar on stderr."""

    def attempt(item: S) -> R | ValueError:
        try:
            return function(item)
        except ValueError as error:
            return error

    def results() -> Iterator[R | ValueError]:
        with ThreadPoolExecutor(workers) as pool:  # threads are enough: Pillow decodes without Python's global lock
            for start in range(0, len(items), BLOCK):  # by blocks: `map` of all items would keep all results in memory
                yield from pool.map(attempt, items[start : start + BLOCK])

    if not progress:
        yield from results()
        return
    from tqdm import tqdm

    yield from tqdm(results(), total=len(items), desc=title, unit=" images")


def report_bad(bad: Sequence[str], n: int, where: Path, on_error: OnError, remedy: str = REMEDY) -> None:
    """Fail on the bad files among `n`, or warn and go on; the first five are named, all are counted."""
    if not bad:
        return
    more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    text = f"{len(bad)} of {n} images in `{where}` cannot be used: {'; '.join(bad[:NAMED])}{more}"
    if on_error == "fail":
        raise ValueError(f"{text}. {remedy}")
    if len(bad) == n:
        raise ValueError(f"{text}. None is left")
    warnings.warn(f"{text}. They are left out", stacklevel=2)


def read_picture(path: Path | IO[bytes]) -> np.ndarray:
    """Return a picture as (h, w) if it is gray, (h, w, 3) if coloured: uint8, or uint16 if it has 16 bits.

    Raises:
        ValueError: if the file is damaged, or holds transparent pixels or a mode that is no image of 8 or 16 bits.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as stored:
            image = ImageOps.exif_transpose(stored)
    except Exception as error:  # for damaged bytes the decoders raise many types
        raise ValueError(f"cannot be decoded ({error})") from error
    if image.mode in GRAY_16:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:  # mode I has 32 bits
            raise ValueError(f"has values from {values.min()} to {values.max()}, expected 0 to 65535")
        return values.astype(np.uint16)
    if image.mode not in GRAY + COLOUR:
        raise ValueError(f"has mode {image.mode}, expected gray or colour of 8 or 16 bits")
    mode = "L" if image.mode in GRAY else "RGB"
    return np.asarray((_opaque(image) if image.has_transparency_data else image).convert(mode))


def check_side(size: int | None) -> None:
    """Raise a ValueError unless `size`, in pixels, is None or that of pictures that fit into the memory."""
    if size is not None and not (type(size) is int and 1 <= size <= LARGEST_SIDE):
        raise ValueError(f"`size` must be a whole number from 1 to {LARGEST_SIDE}, got {size!r}")


def centre_square(image: "Image", side: int) -> "Image":
    """Return the square of `side` pixels in the middle of an image."""
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def match_channels(sets: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return image sets; if one is gray, sets of three equal channels become gray too, with a warning."""
    if {images.shape[1] for images in sets.values()} != {1, 3}:
        return sets
    alike = {name: images[:, :1] if _is_gray(images) else images for name, images in sets.items()}
    changed = [name for name in sets if alike[name].shape != sets[name].shape]
    if changed:
        warnings.warn(f"{', '.join(changed)}: RGB of three equal channels, compared as gray", stacklevel=2)
    return alike


def _opaque(image: "Image") -> "Image":
    """Return an image with its alpha channel, or raise ValueError if that is not 255 everywhere."""
    full = image.convert("LA" if image.mode in GRAY else "RGBA")
    if full.getchannel("A").getextrema()[0] < 255:  # type: ignore[operator]  # of one channel it is a pair of numbers
        raise ValueError(f"has mode {image.mode} and transparent pixels: compose it on a background first")
    return full


def _channels_first(array: np.ndarray) -> Tensor:
    """Return (h, w) or (h, w, c) as (c, h, w)."""
    return torch.from_numpy(array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1)))


def _read_file(path: Path) -> Tensor:
    """Return the images (n, c, h, w) of one file, uint8 or float32 in [0, 1]."""
    if path.suffix.lower() in ARRAYS:
        return _read_array(path)
    picture = read_picture(path)
    if picture.dtype == np.uint16:
        return torch.from_numpy(picture.astype(np.float32) / 65535)[None, None]
    return _channels_first(np.array(picture))[None]


def _read_array(path: Path) -> Tensor:
    """Return the images of an `.npy` file, or of an `.npz` with one array or one called `images` or `arr_0`."""
    if zipfile.is_zipfile(path):
        arrays = read_npz(path)
        names: list[str] = [k for k in ("images", "arr_0") if k in arrays] or (list(arrays) if len(arrays) == 1 else [])
        if not names:
            raise ValueError(f"needs an array called 'images', it holds {', '.join(arrays)[:100] or 'none'}")
        return _from_array(arrays[names[0]], stack=True)
    return _from_array(read_npy(path), stack=False)


def _from_array(array: np.ndarray, *, stack: bool) -> Tensor:
    """Bring (n, c, h, w), (n, h, w, c), (c, h, w), (h, w, c) or (h, w) to (n, c, h, w), uint8 or float32 in [0, 1].

    Three axes are one image if only the first or only the last is 1 or 3. Else they are gray images (n, h, w) in a
    `stack`, and refused in a file that may hold one image or several.
    """
    if array.ndim == 3:
        first, middle, last = (size in (1, 3) for size in array.shape)
        if first != last and not middle:
            array = array[None]
        elif stack:
            array = array[:, None]
        else:
            raise ValueError(
                f"has shape {array.shape}: one image is (h, w, 3), (3, h, w), (h, w, 1) or (1, h, w); save a stack of "
                "gray images as (n, h, w, 1)"
            )
    array = array[None, None] if array.ndim == 2 else array
    if array.ndim != 4:
        raise ValueError(f"an array of images has 2 to 4 axes, got {array.shape}")
    if array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.dtype == np.uint16:
        array = array.astype(np.float32) / 65535
    if array.dtype == np.uint8:
        return check_images(torch.from_numpy(array.copy()))
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"an array of images is uint8, uint16 or floating point, got {array.dtype}")
    return check_images(torch.from_numpy(array.astype(np.float32)))


def _is_gray(images: Tensor) -> bool:
    """Return whether all channels of the images (n, c, h, w) are equal."""
    return bool((images == images[:, :1]).all())


def _common_shape(files: Sequence[Path], read: Callable[[Path], Tensor], where: Path) -> tuple[int, int, int]:
    """Return the (c, h, w) of the first readable file; the channels are those of the first gray or coloured file.

    A file of three equal channels does not decide whether the images are gray: it may be a gray image saved as RGB.
    """
    shape, reason, n_undecided = None, "", 0
    for path in files:
        try:
            images = read(path)
        except ValueError as error:
            reason = reason or f"{path.name} {error}"
            continue
        c, h, w = images.shape[1:]
        shape = (c, *shape[1:]) if shape else (c, h, w)
        n_undecided += 1
        if c == 1 or not _is_gray(images) or n_undecided == MAX_PROBED:
            break
    if shape is None and len(files) == 1:
        raise ValueError(f"`{files[0].parent}`: {reason}")
    if shape is None:
        raise ValueError(f"`{where}` holds no image that can be read ({len(files)} files tried): the first, {reason}")
    return shape


def _fit(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return images (n, c, h, w) of `shape` (c, h, w); three equal channels are accepted as gray.

    Raises:
        ValueError: if size or channels differ.
    """
    c, h, w = images.shape[1:]
    if (h, w) != shape[1:]:
        raise ValueError(f"is {h}x{w} (h x w), expected {shape[1]}x{shape[2]}")
    if c == shape[0]:
        return images
    if (c, shape[0]) == (1, 3):
        raise ValueError("is gray, expected RGB")
    if (c, shape[0]) != (3, 1):
        raise ValueError(f"has {c} channels, expected {shape[0]}")
    if not _is_gray(images):
        raise ValueError("is coloured, expected gray")
    return images[:, :1]


def _join(parts: list[Tensor]) -> Tensor:
    """Concatenate the images and empty `parts`."""
    # By hand, because `torch.cat` would hold all images twice: here each part is freed when it is copied.
    if any(part.is_floating_point() for part in parts):
        parts[:] = [to_float(part) for part in parts]
    joined = torch.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=parts[0].dtype)
    start = 0
    for i in range(len(parts)):
        end = start + len(parts[i])
        joined[start:end] = parts[i]
        parts[i], start = parts[i][:0].clone(), end
    parts.clear()
    return joined


def _name(path: Path, where: Path) -> str:
    """Return the path relative to the folder `where`, or the file's name if `where` is the file itself."""
    return str(path.relative_to(where)) if path != where and path.is_relative_to(where) else path.name
