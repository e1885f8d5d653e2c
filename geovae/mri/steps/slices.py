"""Planes of a volume in RAS order, with their place in mm; as pictures, and back.

A picture shows anterior (axial) or superior (coronal, sagittal) at the top. Neurological: the patient's left is on the
left. Radiological: as seen from the feet or the face, the patient's left is on the right (numpy.rot90 of an OASIS-1
T88_111 plane as stored, LAS, is radiological). In sagittal pictures the front is on the right, if radiological left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from geovae.checks import check_choice
from geovae.mri.volume import Volume, shifted, to_mm

Axis = Literal["axial", "coronal", "sagittal"]
Unit = Literal["fraction", "mm", "index"]
View = Literal["neurological", "radiological"]
AXES: dict[str, int] = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of a volume."""

    data: np.ndarray  # float32 (x, y), (x, z) or (y, z), as in the volume
    axis: Axis  # the axis it is perpendicular to
    index: int  # of the voxels along that axis
    mm: float  # position of the plane's middle along that axis
    affine: np.ndarray  # (4, 4), mm, of the plane as a volume of one voxel along its axis


def slice_index(volume: Volume, axis: Axis, at: float, unit: Unit = "fraction") -> int:
    """Return the index of the plane nearest to `at`: a fraction 0 to 1 of the grid, mm, or an index.

    Raises:
        ValueError: if it lies outside of the volume; the message gives the valid range.
    """
    check_choice("unit", unit, get_args(Unit))
    along = axis_number(axis)
    n = volume.shape[along]
    first, last = (_plane_mm(volume, along, k) for k in (0, n - 1))
    positions = {"fraction": at * (n - 1), "index": at, "mm": (at - first) / ((last - first) or 1) * (n - 1)}
    if unit == "index" and at != int(at):
        raise ValueError(f"an index must be a whole number, got {at}")
    # The outermost planes reach half a voxel beyond their middles, so for mm that half is inside.
    if not -0.5 <= positions[unit] <= n - 0.5 or (unit != "mm" and not 0 <= positions[unit] <= n - 1):
        low, high = sorted((first, last))
        raise ValueError(
            f"the {axis} slice at {at:g} ({unit}) is outside the volume: valid are {low:g} to {high:g} mm, "
            f"index 0 to {n - 1}, fraction 0 to 1"
        )
    return int(np.clip(round(positions[unit]), 0, n - 1))


def cut_plane(volume: Volume, axis: Axis = "axial", at: float = 0.5, unit: Unit = "fraction") -> Plane:
    """Return the plane nearest to `at` of a volume (x, y, z) in RAS order; see `slice_index`."""
    along, index = axis_number(axis), slice_index(volume, axis, at, unit)
    start = np.zeros(3)
    start[along] = index
    data = volume.data[(slice(None),) * along + (index,)].copy()  # numpy.take would read the whole volume
    return Plane(data, axis, index, _plane_mm(volume, along, index), shifted(volume.affine, start))


def cut_planes(
    volume: Volume, axis: Axis = "axial", at: Sequence[float] = (0.5,), unit: Unit = "fraction"
) -> list[Plane]:
    """Return one plane for each position.

    Raises:
        ValueError: if positions lie outside of the volume or on the same plane.
    """
    planes = [cut_plane(volume, axis, position, unit) for position in at]
    if not planes or len({p.index for p in planes}) < len(planes):
        raise ValueError(f"`at` must name at least one plane and none twice, got {list(at)} ({unit})")
    return planes


def to_image(data: np.ndarray, axis: Axis = "axial", view: View = "neurological") -> np.ndarray:
    """Return a plane (x, y), (x, z) or (y, z) as a picture (rows, columns), contiguous."""
    axis_number(axis)
    check_choice("view", view, get_args(View))
    picture = np.rot90(data)
    return np.ascontiguousarray(picture if view == "neurological" else picture[:, ::-1])


def from_image(picture: np.ndarray, axis: Axis = "axial", view: View = "neurological") -> np.ndarray:
    """Return the plane of a picture (rows, columns): the inverse of `to_image`."""
    axis_number(axis)
    check_choice("view", view, get_args(View))
    return np.ascontiguousarray(np.rot90(picture if view == "neurological" else picture[:, ::-1], k=-1))


def axis_number(axis: str) -> int:
    """Return 0, 1 or 2 for sagittal, coronal or axial.

    Raises:
        ValueError: for another axis.
    """
    check_choice("axis", axis, get_args(Axis))
    return AXES[axis]


def _plane_mm(volume: Volume, along: int, index: int) -> float:
    """Return the position of the middle of a plane along its axis, mm."""
    middle = (np.array(volume.shape) - 1) / 2
    middle[along] = index
    return round(float(to_mm(volume.affine, middle)[along]), 4)
