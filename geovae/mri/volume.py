"""A volume: voxels, their position in millimetres, and the steps that made it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Step = dict[str, Any]  # {"step": name, ...its numbers}, all of it JSON


@dataclass(frozen=True, eq=False)
class Volume:
    """One brain."""

    data: np.ndarray  # float32 (x, y, z), any memory order
    affine: np.ndarray  # (4, 4) float64, from voxel indices to mm; RAS+: x to the right, y to the front, z upwards
    history: tuple[Step, ...] = ()  # the steps so far, oldest first

    def __post_init__(self) -> None:
        """Check type and shapes."""
        if self.data.ndim != 3 or self.data.dtype != np.float32 or 0 in self.data.shape:
            raise ValueError(
                f"`data` must be a non-empty float32 array (x, y, z), got {self.data.dtype} of shape {self.data.shape}"
            )
        if np.shape(self.affine) != (4, 4):
            raise ValueError(f"`affine` must have shape (4, 4), got {np.shape(self.affine)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = self.data.shape
        return x, y, z

    @property
    def spacing(self) -> np.ndarray:
        """Edge lengths of a voxel (3,), mm."""
        return voxel_sizes(self.affine)

    def after(
        self, step: str, data: np.ndarray | None = None, affine: np.ndarray | None = None, **numbers: Any
    ) -> "Volume":
        """Return the volume with new `data` (x, y, z) or `affine` (4, 4), and the step appended to its history."""
        return replace(
            self,
            data=self.data if data is None else data,
            affine=self.affine if affine is None else np.asarray(affine, np.float64),
            history=(*self.history, {"step": step, **numbers}),
        )


def voxel_sizes(affine: np.ndarray) -> np.ndarray:
    """Return the edge lengths (3,) of a voxel in mm: the norms of the columns of `affine` (4, 4)."""
    return np.asarray(np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0))


def to_mm(affine: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the positions (..., 3) in mm of voxel indices (..., 3)."""
    return np.asarray(np.asarray(index, float) @ affine[:3, :3].T + affine[:3, 3])


def shifted(affine: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return the affine (4, 4) of a grid whose first voxel is voxel `start` (3,) of the grid of `affine`."""
    moved = np.array(affine, float)
    moved[:3, 3] = to_mm(moved, np.asarray(start))
    return moved


def in_memory_order(first: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Return views of arrays of one shape, with axes in the order in which `first` lies in memory.

    Sums, percentiles and selections do not depend on the order of voxels, but are several times faster along memory.
    """
    axes = np.argsort([-abs(s) for s in first.strides], kind="stable")
    flips = tuple(slice(None, None, -1 if first.strides[a] < 0 else 1) for a in axes)
    return [array.transpose(axes)[flips] for array in (first, *others)]
