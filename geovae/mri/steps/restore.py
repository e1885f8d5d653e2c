"""Back to anatomy: a generated picture or array as a NIfTI file that lies where its model's data lay."""

from pathlib import Path
from typing import Literal

import numpy as np

from geovae.mri.cohort.export import atomic
from geovae.mri.steps.normalise import unscale
from geovae.mri.steps.slices import Axis, View, axis_number, from_image
from geovae.mri.volume import Volume

Space = Literal["unknown", "scanner", "aligned", "talairach", "mni"]
_CODES = {"unknown": 0, "scanner": 1, "aligned": 2, "talairach": 3, "mni": 4}


def picture_to_volume(picture: np.ndarray, affine: np.ndarray, *, axis: Axis, view: View) -> Volume:
    """Return a picture (rows, columns) as a volume of one voxel along `axis`, in RAS order.

    Args:
        picture: uint8 from 0 to 255, which become 0 to 1, or floats.
        affine: (4, 4), mm, as in `affines` of the npz, or `Plane.affine`.
        axis: of the settings of the npz.
        view: of the settings of the npz; the wrong one mirrors the brain, so there is no default.
    """
    if np.ndim(picture) != 2:
        raise ValueError(f"`picture` must have shape (rows, columns), got {np.shape(picture)}")
    data = from_image(np.asarray(picture), axis, view)
    values = data.astype(np.float32) / (255 if data.dtype == np.uint8 else 1)
    return Volume(np.expand_dims(values, axis_number(axis)), np.asarray(affine, float)).after("from picture", axis=axis)


def array_to_volume(data: np.ndarray, affine: np.ndarray, *, low: float = 0.0, high: float = 1.0) -> Volume:
    """Return values (x, y, z) in [0, 1] as a volume; `low` and `high` give a subject's own unit back."""
    return Volume(unscale(data, low, high), np.asarray(affine, float)).after("from array", low=low, high=high)


def write_nifti(volume: Volume, path: str | Path, *, space: Space = "aligned") -> Path:
    """Write a volume (x, y, z) as float32 NIfTI-1 (`.nii` or `.nii.gz`), affine in mm as sform and qform.

    Args:
        volume: what to write.
        path: of the file; it appears whole.
        space: what the coordinates refer to; T88 is `talairach`.
    """
    import nibabel as nib

    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"`path` must end in .nii or .nii.gz, got `{path.name}`")
    if space not in _CODES:
        raise ValueError(f"`space` must be one of {', '.join(_CODES)}, got {space!r}")
    image = nib.Nifti1Image(np.ascontiguousarray(volume.data), volume.affine)
    image.set_sform(volume.affine, code=_CODES[space])
    image.set_qform(volume.affine, code=_CODES[space])
    image.header.set_xyzt_units("mm")
    with atomic(path) as partial:
        nib.save(image, partial)
    return path
