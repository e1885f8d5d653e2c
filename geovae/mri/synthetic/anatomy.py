"""Synthetic anatomies, never for findings: nilearn's MNI152 brain, deformed by seeded smooth diffeomorphisms.

A displacement is exp(v) of a smooth velocity field v in mm (Arsigny 2006, scaling and squaring), so it never folds. `v`
is the sum of smooth noise and of `atrophy` times a field that opens the ventricles; `atrophy` also shrinks the brain.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

COARSE = 4.0  # mm, the grid of velocities
GRID = (44, 52, 44)  # (x, y, z) voxels of it: the field of view of T88_111, in RAS order
START = np.array([-86.5, -121.5, -73.5])  # mm, centre of its first voxel
SCALE = 0.94  # T88 (Talairach) brains are smaller than MNI's
OPENING = 9.0  # mm of velocity at the wall of the ventricles, for an atrophy of 1
SHRINKING = 0.05  # of the brain's diameter, for an atrophy of 1
WANDERING = 2.5  # mm, standard deviation of the noise


@dataclass(frozen=True, eq=False)
class Template:
    """The MNI152 brain at 1 mm: T1, grey and white matter (x, y, z), 0 to 255; ventricles, 0 to 1; affine to mm."""

    t1: np.ndarray
    grey: np.ndarray
    white: np.ndarray
    ventricles: np.ndarray
    affine: np.ndarray


@cache
def template() -> Template:
    """Return the template.

    Raises:
        FileNotFoundError: if nilearn is not installed.
    """
    spec = find_spec("nilearn")  # nilearn itself takes seconds to import
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the cohort is made from nilearn's MNI152 templates: pip install 'geovae[mri]'")
    import nibabel as nib

    folder = Path(spec.origin).parent / "datasets" / "data"
    names = [folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz" for kind in ("t1", "gm", "wm")]
    images: list[Any] = [nib.load(name) for name in names]
    t1, grey, white = (np.asarray(image.dataobj).astype(np.float32) for image in images)
    affine = images[0].affine
    return Template(t1, grey, white, _ventricles(t1, grey, white, affine), affine)


def _ventricles(t1: np.ndarray, grey: np.ndarray, white: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the lateral ventricles, 0 or 1: the large pieces of fluid in a box about them, left and right."""
    from scipy.ndimage import binary_opening, label

    fluid = (t1 > 0) & (grey + white < 80)
    box = np.zeros_like(fluid)
    low, high = ((np.linalg.inv(affine) @ [*mm, 1])[:3].astype(int) for mm in ((-32, -48, -4), (33, 36, 30)))
    box[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    pieces, _ = label(binary_opening(fluid & box))
    sizes = np.bincount(pieces.ravel())[1:]
    large = 1 + np.flatnonzero(sizes > 0.8 * sizes.max())  # label 0 is the rest; left and right are about as large
    return np.asarray(np.isin(pieces, large).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One deformed brain: a point p of it lies at p + displacement in the template."""

    displacement: np.ndarray  # (3, x, y, z) mm on the coarse grid
    scale: float  # mm of the brain for one mm of the template
    atrophy: float  # 0 (none) to about 1

    def sample(self, values: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return the template's `values` (x, y, z), linear, at points (3, n) of the brain, mm; 0 outside."""
        return self.look_up(values, self.move(points))

    def move(self, points: np.ndarray) -> np.ndarray:
        """Return the points (3, n) of the brain with their displacement, mm."""
        from scipy.ndimage import map_coordinates

        coarse = (points - START[:, None]) / COARSE
        return points + np.stack([map_coordinates(u, coarse, order=1, mode="nearest") for u in self.displacement])

    def look_up(self, values: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Return the template's `values` (x, y, z), linear, at points (3, n), mm, already displaced; 0 outside."""
        from scipy.ndimage import map_coordinates

        inverse = np.linalg.inv(template().affine)
        index = (inverse[:3, :3] / self.scale) @ moved + inverse[:3, 3:]
        return np.asarray(map_coordinates(values, index, order=1, mode="constant", cval=0.0))

    def ventricle_ml(self) -> float:
        """Return the true volume of the lateral ventricles, ml."""
        points = coarse_points(2.0)
        # the template's ventricles lie in this box, and a deformation moves them by a few mm
        near = np.all(np.abs(points - [[0], [-10], [12]]) < [[50], [65], [45]], axis=0)
        return float(self.sample(template().ventricles, points[:, near]).sum() * 2.0**3 / 1000)


def draw_anatomy(generator: np.random.Generator, atrophy: float) -> Anatomy:
    """Return a random anatomy with this atrophy."""
    from scipy.ndimage import gaussian_filter

    noise = np.stack([gaussian_filter(generator.standard_normal(GRID), 4, mode="constant") for _ in range(3)])
    velocity = WANDERING * noise / noise.std() + atrophy * OPENING * opening_field()
    scale = SCALE * (1 + 0.02 * generator.standard_normal()) * (1 - SHRINKING * atrophy)
    return Anatomy(exponential(velocity), float(scale), float(atrophy))


def exponential(velocity: np.ndarray, squarings: int = 6) -> np.ndarray:
    """Return the displacement (3, x, y, z) in mm of exp(v), v (3, x, y, z) in mm on the coarse grid."""
    from scipy.ndimage import map_coordinates

    grid = np.stack(np.meshgrid(*map(np.arange, GRID), indexing="ij")).astype(float)
    u = velocity / 2**squarings  # so small that exp(v) is 1 + v
    for _ in range(squarings):
        at = grid + u / COARSE  # exp(2 v) is exp(v) after exp(v)
        u = u + np.stack([map_coordinates(c, at, order=1, mode="nearest") for c in u])
    return np.asarray(u)


@cache
def opening_field() -> np.ndarray:
    """Return velocities (3, x, y, z) towards the ventricles, at most 1: what is sampled there moves outwards."""
    from scipy.ndimage import gaussian_filter

    still = Anatomy(np.zeros((3, *GRID)), SCALE, 0.0)
    ventricles = still.sample(template().ventricles, coarse_points(COARSE)).reshape(GRID)
    field = np.stack(np.gradient(gaussian_filter(ventricles, 1.5)))
    return np.asarray(field / np.linalg.norm(field, axis=0).max())


def coarse_points(spacing: float) -> np.ndarray:
    """Return the mm (3, n) of a grid of `spacing` mm over the field of view, x slowest."""
    counts = [round(n * COARSE / spacing) for n in GRID]
    first = START - COARSE / 2 + spacing / 2
    axes = [a + spacing * np.arange(n) for a, n in zip(first, counts, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
