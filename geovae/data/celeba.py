"""CelebA at 64x64: `celeba/train_data.pt` and `celeba/val_data.pt`, tensors in [0, 1], quantised while they are read.

The training file holds 8 GB of floats. It is memory-mapped again for every chunk: a closed mapping frees its pages, so
loading needs memory for the uint8 result and one chunk only.
"""

import pickle
from pathlib import Path

import torch
from torch import Tensor

from geovae.data.dataset import (
    DataSet,
    Split,
    Splits,
    check_common,
    how_to_build,
    limit_train,
    read_test_folder,
    require_file,
)
from geovae.images import to_uint8
from geovae.images.pictures import OnError

SHAPE = (3, 64, 64)
CHUNK = 64  # images: 3 MB of float32


def load(
    *,
    root: str = "data_folders",
    seed: int = 0,
    train_size: int | None = None,
    test_images: bool = True,
    on_error: OnError = "fail",
) -> Splits:
    """Return CelebA, split as published, without labels.

    Args:
        root: folder that holds `celeba/train_data.pt`, `celeba/val_data.pt` and `celeba/test/test/*.png`.
        seed: of the subset that `train_size` draws; the full splits do not depend on it.
        train_size: keep this many training images, and a fifth as many for validation.
        test_images: whether to read the test folder if there is one.
        on_error: whether a damaged test image is an error (`fail`) or skipped with a warning (`skip`).
    """
    check_common(seed, train_size, on_error)
    folder = Path(root) / "celeba"
    how = how_to_build("celeba", "img_align_celeba/*.jpg and list_eval_partition.txt")
    paths = [require_file(folder / f"{name}_data.pt", how, "celeba") for name in ("train", "val")]
    train, val = (Split(read_tensor(path)) for path in paths)
    test = read_test_folder(folder / "test" / "test", SHAPE, on_error) if test_images else None
    return limit_train(Splits(train, val, test, str(paths[0])), train_size, seed)


DATASET = DataSet(load, image_shape=SHAPE)


def read_tensor(path: Path) -> Tensor:
    """Return the images of a file as uint8 (n, 3, 64, 64).

    The file holds a tensor (n, 3, 64, 64) or (n, 64, 64, 3), floating point in [0, 1] or uint8 in 0..255.

    Raises:
        ValueError: for a damaged file, something other than a tensor, or a wrong shape, type or range.
    """
    n = len(_open(path))
    images = torch.empty((n, *SHAPE), dtype=torch.uint8)
    # A single dark image is no sign of a wrong scale: only the largest value of the whole file is.
    highest = 0.0
    for start in range(0, n, CHUNK):
        chunk = _open(path)[start : start + CHUNK]
        highest = max(highest, _check_range(chunk, path))
        chunk = chunk if chunk.shape[1:] == SHAPE else chunk.permute(0, 3, 1, 2)
        images[start : start + CHUNK] = to_uint8(chunk)
        is_uint8 = chunk.dtype == torch.uint8
    if is_uint8 and highest <= 1:
        raise ValueError(f"`{path}` holds uint8 values of 0 and 1 only; uint8 images must use 0 to 255")
    if not is_uint8 and highest < 1.5 / 255:
        raise ValueError(f"`{path}` holds no value above {highest:g}: was it divided by 255 twice?")
    return images


def _check_range(chunk: Tensor, path: Path) -> float:
    """Return the largest value, or raise ValueError if floating point values leave [0, 1]."""
    low, high = (float(v) for v in chunk.aminmax())
    if chunk.dtype != torch.uint8 and not (low >= 0.0 and high <= 1.0):  # written so that NaN fails too
        raise ValueError(
            f"`{path}` must hold values in [0, 1], got {low:g} to {high:g}; divide by 255, or save it as uint8"
        )
    return high


@torch.no_grad()
def _open(path: Path) -> Tensor:
    """Memory-map the tensor of a file, without reading its values or unpickling anything but tensors."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"`{path}` is not a sound tensor file: {reason}. It may be truncated, or hold more than a tensor; "
            "save it with torch.save(tensor, path)"
        ) from error
    if not isinstance(stored, Tensor) or stored.layout != torch.strided:
        raise ValueError(f"`{path}` must hold one dense tensor, got {type(stored).__name__}")
    if stored.dtype != torch.uint8 and not stored.is_floating_point():
        raise ValueError(f"`{path}` must hold floating point in [0, 1] or uint8, got {stored.dtype}")
    if stored.ndim != 4 or tuple(stored.shape[1:]) not in {SHAPE, (64, 64, 3)} or not len(stored):
        raise ValueError(f"`{path}` must have shape (n, 3, 64, 64) or (n, 64, 64, 3), got {tuple(stored.shape)}")
    return stored.detach()
