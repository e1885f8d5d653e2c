"""Images from folders, files and arrays: PNG, JPEG, npy and npz, in sub-folders and with upper-case suffixes too.

16-bit images are divided by 65535 rather than clipped to 8 bits. Nothing is resized: mixed sizes are an error.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geovae.evaluation.frechet import UNREADABLE
from geovae.images import check_images, to_float

PICTURES = (".png", ".jpg", ".jpeg")
ARRAYS = (".npy", ".npz")
GRAY_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def read_images(path: str | Path) -> Tensor:
    """Return the images (n, c, h, w) of a file or of a folder and all its sub-folders, in the order of their paths.

    uint8 where every file is 8-bit, else float32 in [0, 1]. Gray stays one channel; palettes and CMYK become RGB; an
    alpha channel must be opaque. Arrays are (n, c, h, w), (n, h, w, c), (n, h, w) or (h, w), uint8, uint16 or floating
    point in [0, 1]; an npz file holds one array, or one called `images` or `arr_0`.

    Raises:
        FileNotFoundError: no such path, or a folder without images.
        ValueError: unreadable files or images of mixed size or channels; the message names them.
    """
    files = image_files(path)
    found: list[Tensor] = []
    broken: list[str] = []
    for file in files:
        try:
            found.append(_read_array(file) if file.suffix.lower() in ARRAYS else _read_picture(file))
        except (*UNREADABLE, SyntaxError, KeyError) as error:
            broken.append(f"{file} ({error})")
    if broken:
        shown = "; ".join(broken[:5]) + (f"; and {len(broken) - 5} more" if len(broken) > 5 else "")
        raise ValueError(f"{len(broken)} of {len(files)} files cannot be read as images: {shown}")
    _check_one_size(files, found)
    if any(x.dtype != torch.uint8 for x in found):
        found = [to_float(x) for x in found]
    return torch.cat(found)


def read_labels(path: str | Path) -> Tensor:
    """Return the labels (n,), int64, of an npy file of whole numbers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: if the file is not a row of whole numbers.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no labels at {path}: expected an npy file of whole numbers, one an image")
    try:
        labels = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise ValueError(f"{path} cannot be read as labels: {error}") from error
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        what = f"{labels.dtype} of shape {labels.shape}" if isinstance(labels, np.ndarray) else "several arrays"
        raise ValueError(f"labels must be a row of whole numbers in an npy file, {path} holds {what}")
    return torch.from_numpy(labels.astype(np.int64))


def image_files(path: str | Path) -> list[Path]:
    """Return the image files under the folder `path`, sorted; or `path` itself where it is such a file."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no images at {path}: there is no such file or folder")
    candidates = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = [f for f in candidates if f.is_file() and f.suffix.lower() in PICTURES + ARRAYS]
    if not files:
        raise FileNotFoundError(f"no images at {path}: looked for {', '.join(PICTURES + ARRAYS)}, sub-folders included")
    return files


def _read_picture(path: Path) -> Tensor:
    from PIL import Image

    with Image.open(path) as picture:
        if picture.mode in GRAY_16:
            return _from_array(np.asarray(picture).astype(np.uint16)[None, None])
        if "A" in picture.getbands() and np.asarray(picture.getchannel("A")).min() < 255:
            raise ValueError("it has a transparent part; flatten it onto a background first")
        mode = "L" if picture.mode in ("1", "L", "LA") else "RGB"
        pixels = np.array(picture.convert(mode))
    return torch.from_numpy(pixels[None, None] if mode == "L" else pixels.transpose(2, 0, 1)[None].copy())


def _read_array(path: Path) -> Tensor:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return _from_array(loaded)
    with loaded as file:
        names = [k for k in ("images", "arr_0") if k in file.files] or (file.files if len(file.files) == 1 else [])
        if not names:
            raise ValueError(f"it needs an array called 'images', it holds {', '.join(file.files) or 'none'}")
        return _from_array(file[names[0]])


def _from_array(array: np.ndarray) -> Tensor:
    """Bring an array to (n, c, h, w), uint8 or float32 in [0, 1]."""
    if array.ndim not in (2, 3, 4):
        raise ValueError(f"an array of images has 2 to 4 axes, got {array.shape}")
    array = array[None, None] if array.ndim == 2 else array[:, None] if array.ndim == 3 else array
    if array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.dtype == np.uint16:
        array = array.astype(np.float32) / 65535
    if array.dtype == np.uint8:
        return check_images(torch.from_numpy(array.copy()))
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"an array of images is uint8, uint16 or floating point, got {array.dtype}")
    return check_images(torch.from_numpy(array.astype(np.float32)))


def _check_one_size(files: list[Path], found: list[Tensor]) -> None:
    first = tuple(found[0].shape[1:])
    for file, images in zip(files, found, strict=True):
        if tuple(images.shape[1:]) != first:
            raise ValueError(
                f"images of mixed size (c, h, w): {files[0]} is {first}, {file} is {tuple(images.shape[1:])}; "
                "bring them to one size and number of channels first"
            )
