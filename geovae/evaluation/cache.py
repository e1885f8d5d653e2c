"""A folder of features and statistics, keyed by the images' content hash and the extractor's id.

An entry is one npz file that appears whole or not at all: several processes may fill the same folder at once (the last
one wins, with the same content). An entry that cannot be read is made again.
"""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geovae.evaluation.features import extract
from geovae.evaluation.statistics import (
    UNREADABLE,
    Statistics,
    read_statistics,
    statistics,
    write_npz,
    write_statistics,
)
from geovae.images import check_images


def content_hash(images: Tensor) -> str:
    """Return the sha256 of `images` (n, c, h, w): type, shape and every byte."""
    check_images(images)
    digest = hashlib.sha256(f"{images.dtype} {tuple(images.shape)}".encode())
    for batch in images.cpu().split(1000):
        digest.update(np.ascontiguousarray(batch.numpy()).view(np.uint8).data)
    return digest.hexdigest()


class FeatureCache:
    """Features and statistics of image sets under the folder `root`; use it for sets that are scored many times."""

    def __init__(self, root: str | Path) -> None:
        """Keep entries under `root`, which need not exist yet."""
        self.root = Path(root)

    def features(self, images: Tensor, extractor: nn.Module, **options: Any) -> Tensor:
        """Return the features (n, dims) of `images`, from the cache or by `extract(images, extractor, **options)`."""
        path = self._path(images, extractor, "features")
        found = _read_features(path, len(images))
        if found is not None:
            return found
        features = extract(images, extractor, **options)
        write_npz(path, {"features": features.numpy()})
        return features

    def statistics(self, images: Tensor, extractor: nn.Module, **options: Any) -> Statistics:
        """Return the statistics of the features of `images`; the entry is a file that pytorch-fid reads too."""
        path = self._path(images, extractor, "statistics")
        if path.is_file():
            try:
                return read_statistics(path)
            except ValueError as error:
                warnings.warn(f"made a cache entry again that could not be read: {error}", stacklevel=2)
        values = statistics(self.features(images, extractor, **options), extractor=str(extractor.id))
        write_statistics(path, values)
        return values

    def _path(self, images: Tensor, extractor: nn.Module, kind: str) -> Path:
        identity = getattr(extractor, "id", None)
        if not isinstance(identity, str) or not identity:
            raise ValueError("an extractor needs an `id` string that names its exact weights to be cached")
        key = hashlib.sha256(f"{content_hash(images)} {identity}".encode()).hexdigest()
        return self.root / f"{key[:32]}.{kind}.npz"


def _read_features(path: Path, n: int) -> Tensor | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            features = torch.from_numpy(file["features"])
        if features.ndim == 2 and len(features) == n:
            return features
        problem = f"it holds {tuple(features.shape)} for {n} images"
    except FileNotFoundError:
        return None
    except (*UNREADABLE, KeyError, TypeError) as error:
        problem = str(error)
    warnings.warn(f"made the cache entry {path} again: {problem}", stacklevel=3)
    return None
