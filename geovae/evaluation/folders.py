"""Labels of image sets, from files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geovae.files import read_npy


def read_labels(path: str | Path) -> Tensor:
    """Return the labels (n,), int64, of an npy file of whole numbers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: if the file is not a row of whole numbers.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no labels at {path}: expected an npy file of whole numbers, one an image")
    labels = read_npy(path)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        what = f"{labels.dtype} of shape {labels.shape}"
        raise ValueError(f"labels must be a row of whole numbers in an npy file, {path} holds {what}")
    return torch.from_numpy(labels.astype(np.int64))
