"""Labels of image sets, from files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor


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
    except Exception as error:  # for damaged bytes NumPy raises many types
        raise ValueError(f"{path} cannot be read as labels: {error}") from error
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        what = f"{labels.dtype} of shape {labels.shape}" if isinstance(labels, np.ndarray) else "several arrays"
        raise ValueError(f"labels must be a row of whole numbers in an npy file, {path} holds {what}")
    return torch.from_numpy(labels.astype(np.int64))
