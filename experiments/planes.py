"""Grids of pictures; those of brains print sides, millimetres and convention, which nobody sees from the voxels."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from geovae.data import npz
from geovae.figures.directions import Directions, directions_of_slices, directions_of_volumes
from geovae.images import image_grid

BRAINS = ("oasis", "oasis_volumes")
UNKNOWN = Directions((), "left and right are not known: geovae.mri.prepare did not write these images")
HEIGHT = 150  # pixels of a picture, so that there is room for letters


def directions_of(data: Mapping[str, Any], shape: Sequence[int]) -> Directions | None:
    """Return what is printed on the pictures of images of `shape` (c, h, w) of a run's `data`: nothing but of brains.

    Slices that another program wrote have `UNKNOWN` sides.
    """
    if data["name"] not in BRAINS:
        return None
    path = Path(data["root"]) / "oasis" / "OASIS.npz"
    if not path.is_file() or "settings" not in npz.keys(path):
        return UNKNOWN
    if data["name"] == "oasis_volumes":
        first = next(iter(json.loads(str(npz.read_array(path, "volumes"))).values()))
        return directions_of_volumes(shape, np.array(first["array_affine"])) if "array_affine" in first else UNKNOWN
    settings = json.loads(str(npz.read_array(path, "settings")))
    return directions_of_slices(settings["axis"], settings["view"], npz.read_array(path, "slice_mm").tolist())


def directions_of_model(meta: Mapping[str, Any]) -> Directions | None:
    """Return the directions that a model file's header keeps: the data may be elsewhere."""
    return Directions(**meta["directions"]) if meta.get("directions") else None


def plane_grid(pictures: Tensor, directions: Directions | None, *, columns: int | None = None) -> np.ndarray:
    """Return pictures (n, c, h, w) as one, like `image_grid`; with `directions` on each, and their caption below."""
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    if directions is None:
        return image_grid(pictures, columns=columns, scale=None)
    grid = image_grid(pictures, columns=columns, scale=max(1, round(HEIGHT / pictures.shape[2])))
    return directions.write(grid, rows=math.ceil(len(pictures) / columns), columns=columns, padding=1)
