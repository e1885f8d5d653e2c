"""A synthetic scan, never for findings: values on the grid of an OASIS-1 product, as the bytes of an Analyze pair."""

import struct
from pathlib import Path

import numpy as np

from geovae.files import atomic_path
from geovae.mri.steps.affines import PRODUCTS, table_affine
from geovae.mri.synthetic.anatomy import COARSE, GRID, START, Anatomy, coarse_points, template

MAX_VALUE = 32000


def scan(
    anatomy: Anatomy, generator: np.random.Generator, *, product: str = "t88_masked", voxel: float = 1.0
) -> np.ndarray:
    """Return int16 values (x, y, z) in the product's own order of axes; 0 outside of the brain.

    Grey values of `t88_masked`, `subj` or `raw`, or the labels of `fseg` (1 fluid, 2 grey, 3 white). `generator` draws
    gain, contrast, bias and noise. `voxel` is the edge in units of the product's own voxels.
    """
    shape, spacing = grid_of(product, voxel)
    affine = table_affine(product, shape, spacing)
    inside, points = _near(anatomy, affine, shape)
    brain_template, moved = template(), anatomy.move(points)
    t1 = anatomy.look_up(brain_template.t1, moved)
    values = np.zeros(int(np.prod(shape)), np.float64)
    brain = t1 > 0
    if product == "fseg":
        grey, white = (anatomy.look_up(v, moved) for v in (brain_template.grey, brain_template.white))
        fluid = np.maximum(255 - grey - white, 0)
        values[inside[brain]] = 1 + np.stack([fluid, grey, white])[:, brain].argmax(axis=0)
    else:
        values[inside[brain]] = _grey(t1[brain], points[:, brain], generator)
    return np.clip(np.rint(values), 0, MAX_VALUE).astype(np.int16).reshape(shape)


def grid_of(product: str, voxel: float = 1.0) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Return shape and spacing in mm of a product with voxels `voxel` times as large, over the same field of view."""
    grid = PRODUCTS[product]
    x, y, z = (round(n / voxel) for n in grid.shape)
    a, b, c = (s * voxel for s in grid.spacing)
    if [x * voxel, y * voxel, z * voxel] != list(grid.shape):
        raise ValueError(f"`voxel` must divide {grid.shape}, got {voxel}")
    return (x, y, z), (a, b, c)


def write_analyze(path: Path, data: np.ndarray, spacing: tuple[float, float, float]) -> None:
    """Write int16 values (x, y, z) as OASIS-1 does: big-endian Analyze, 4-D with a trailing 1, spaces for origin."""
    # By struct and not by nibabel: nibabel writes another origin, and tests of the reader need an independent writer.
    header = bytearray(348)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">i", header, 32, 16384)
    header[38:39] = b"r"
    struct.pack_into(">8h", header, 40, 4, *data.shape, 1, 0, 0, 0)
    struct.pack_into(">2h", header, 70, 4, 16)
    struct.pack_into(">8f", header, 76, 0.0, *spacing, 0.0, 0.0, 0.0, 0.0)
    struct.pack_into(">2i", header, 140, int(data.max()), int(data.min()))
    header[253:263] = b" " * 10
    with atomic_path(path.with_suffix(".hdr")) as temporary:
        temporary.write_bytes(header)
    with atomic_path(path.with_suffix(".img")) as temporary:
        temporary.write_bytes(data.astype(">i2").tobytes(order="F"))


def _grey(t1: np.ndarray, points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return scanner values (n,) of the template's values (n,) at points (3, n) in mm; at least 1."""
    gain, contrast = generator.uniform(11, 15), generator.uniform(0.9, 1.1)
    slope = generator.normal(0, 0.05, 3) / 80  # the bias of the coil: some per cent over 80 mm
    bias = 1 + slope @ points
    noise = generator.normal(0, 3.0, t1.shape)
    values = gain * (255 * (t1 / 255) ** contrast * bias + noise)
    return np.asarray(np.maximum(values, 1))  # 0 is the background


def _near(anatomy: Anatomy, affine: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels (n,) that can be brain, as flat indices, and their positions (3, n) in mm.

    They lie within two steps of the coarse grid from brain. The affine only permutes and flips axes, so each coordinate
    belongs to one axis of voxels.
    """
    from scipy.ndimage import binary_dilation

    brain = anatomy.sample(template().t1, coarse_points(COARSE)).reshape(GRID) > 0
    brain = np.pad(binary_dilation(brain, iterations=2), 1)
    axis_of = np.abs(affine[:3, :3]).argmax(axis=1)
    mm = [affine[row, axis_of[row]] * np.arange(shape[axis_of[row]]) + affine[row, 3] for row in range(3)]
    cells = [np.clip(np.rint((mm[r] - START[r]) / COARSE).astype(int) + 1, 0, GRID[r] + 1) for r in range(3)]
    index = np.nonzero(brain[np.ix_(*cells)])
    points = np.stack([mm[row][index[row]] for row in range(3)])
    stored = tuple(index[row] for row in np.argsort(axis_of))
    return np.ravel_multi_index(stored, shape), points
