"""Mean and covariance of features, and pytorch-fid's npz files of them (`mu`, `sigma`), read and written."""

import os
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geovae.evaluation.matrices import Matrix, check_features, gram

# what numpy raises for a file that is cut short, overwritten or not its own
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile)


class Statistics(NamedTuple):
    """Mean `mu` (dims,) and covariance `sigma` (dims, dims), float64; `n` and `extractor` where they are known.

    pytorch-fid's own files hold neither `n` nor the extractor; files written here hold both beside them.
    """

    mu: Tensor
    sigma: Tensor
    n: int | None = None
    extractor: str | None = None


def statistics(features: Matrix, *, extractor: str | None = None) -> Statistics:
    """Return the statistics of `features` (n, dims), covariance divided by n - 1."""
    x = check_features(features, "features").double()
    mu = x.mean(dim=0)
    centred = x - mu
    return Statistics(mu, gram(centred) / (len(x) - 1), len(x), extractor)


def statistics_path(path: str | Path) -> Path:
    """Return `path` if it is one for a file of statistics."""
    if Path(path).suffix != ".npz":
        raise ValueError(f"`path` of statistics must end in .npz, got {path}")
    return Path(path)


def write_statistics(path: str | Path, values: Statistics) -> Path:
    """Write `values` to an npz file that pytorch-fid reads; the file appears whole or not at all."""
    path = statistics_path(path)
    arrays = {"mu": values.mu.cpu().numpy(), "sigma": values.sigma.cpu().numpy()}
    if values.n is not None:
        arrays["n"] = np.array(values.n)
    if values.extractor is not None:
        arrays["extractor"] = np.array(values.extractor)
    return write_npz(path, arrays)


def read_statistics(path: str | Path) -> Statistics:
    """Read an npz file with `mu` (dims,) and `sigma` (dims, dims), written by pytorch-fid or here."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no statistics at {path}; write_statistics or `pytorch_fid --save-stats` makes them")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        mu, sigma = torch.from_numpy(arrays["mu"]).double(), torch.from_numpy(arrays["sigma"]).double()
    except (*UNREADABLE, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a statistics file with the arrays `mu` and `sigma`: {error}") from error
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(f"{path}: `sigma` must be (dims, dims) for `mu` (dims,), got {sigma.shape} and {mu.shape}")
    if not bool(torch.isfinite(mu).all() and torch.isfinite(sigma).all()):
        raise ValueError(f"{path} holds NaN or infinity")
    n = int(arrays["n"]) if "n" in arrays else None
    return Statistics(mu, sigma, n, str(arrays["extractor"]) if "extractor" in arrays else None)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write `arrays` beside `path` and move them there in one step, so that no reader sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
