"""Back to anatomy: a generated picture or array as a NIfTI file that lies where its model's data lay."""

from pathlib import Path
from typing import Literal, get_args

import numpy as np

from geovae.checks import check_choice
from geovae.files import atomic_path
from geovae.mri.steps.normalise import unscale
from geovae.mri.steps.slices import Axis, View, axis_number, from_image
from geovae.mri.volume import Volume

Space = Literal["unknown", "scanner", "aligned", "talairach", "mni"]  # in the order of NIfTI's codes, from 0


def picture_to_volume(picture: np.ndarray, affine: np.ndarray, *, axis: Axis, view: View) -> Volume:
    """Return a picture (rows, columns), uint8 or floats from 0 to 1, as a volume one voxel thick along `axis`, in RAS.

    `affine` (4, 4), mm, is that of the plane; `axis` and `view` are those of the settings of the npz: the wrong view
    mirrors the brain, so there is no default.
    """
    if np.ndim(picture) != 2:
        raise ValueError(f"`picture` must have shape (rows, columns), got {np.shape(picture)}")
    data = from_image(np.asarray(picture), axis, view)
    values = data.astype(np.float32) / (255 if data.dtype == np.uint8 else 1)
    return Volume(np.expand_dims(values, axis_number(axis)), np.asarray(affine, float)).after("from picture", axis=axis)


def array_to_volume(data: np.ndarray, affine: np.ndarray, *, low: float = 0.0, high: float = 1.0) -> Volume:
    """Return values (x, y, z) in [0, 1] as a volume; `low` and `high` restore the unit of a subject."""
    return Volume(unscale(data, low, high), np.asarray(affine, float)).after("from array", low=low, high=high)


def write_nifti(volume: Volume, path: str | Path, *, space: Space = "aligned") -> Path:
    """Write a volume (x, y, z) as float32 NIfTI-1 (`.nii` or `.nii.gz`), affine in mm as sform and qform; atomically.

    `space` is what the coordinates refer to; T88 is `talairach`.

    Raises:
        ValueError: for another suffix or an unknown space.
    """
    import nibabel as nib

    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"`path` must end in .nii or .nii.gz, got `{path.name}`")
    check_choice("space", space, get_args(Space))
    image = nib.Nifti1Image(np.ascontiguousarray(volume.data), volume.affine)
    # Both forms, because programs differ in which of the two they read first.
    image.set_sform(volume.affine, code=get_args(Space).index(space))
    image.set_qform(volume.affine, code=get_args(Space).index(space))
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return path
