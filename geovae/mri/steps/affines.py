"""Where a volume lies: the affine of an OASIS-1 product from a table, of the header, or the identity.

The origin in OASIS-1's headers is garbage (ASCII spaces). nibabel then assumes the middle of the grid, about 20 mm off
in y and 13 mm in z for T88_111, and the axes of SUBJ_111 and RAW are not those that Analyze prescribes (ASL, not LAS).
T88 is the space of Talairach's atlas, not MNI.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np

from geovae.checks import check_choice

AffinePolicy = Literal["auto", "table", "header", "identity"]


class Product(NamedTuple):
    """The grid of an OASIS-1 product: each axis is named by the letter of the side it grows to."""

    axes: str
    shape: tuple[int, int, int]  # voxels
    spacing: tuple[float, float, float]  # mm
    start: tuple[float, float, float]  # mm (x, y, z) of the first voxel's centre


PRODUCTS = {
    "t88_masked": Product("LAS", (176, 208, 176), (1, 1, 1), (87, -123, -75)),
    "subj": Product("ASL", (256, 256, 160), (1, 1, 1), (80, -128, -128)),
    "raw": Product("ASL", (256, 256, 128), (1, 1, 1.25), (80, -128, -128)),
}
PRODUCTS["t88"] = PRODUCTS["fseg"] = PRODUCTS["t88_masked"]
DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def axes_affine(axes: str, spacing: tuple[float, float, float], start: tuple[float, float, float]) -> np.ndarray:
    """Return the affine (4, 4) for voxel axes such as `LAS`, `spacing` in mm, the first voxel at `start` mm."""
    affine = np.zeros((4, 4))
    affine[:3, 3], affine[3, 3] = start, 1
    for column, (letter, size) in enumerate(zip(axes, spacing, strict=True)):
        row, sign = DIRECTIONS[letter]
        affine[row, column] = sign * size
    return affine


def table_affine(product: str, shape: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    """Return the affine (4, 4) of an OASIS-1 product, also of a copy with larger voxels over the same field of view.

    Raises:
        ValueError: if the product is not in the table, or the grid (voxels, mm) is not the product's.
    """
    if product not in PRODUCTS:
        raise ValueError(f"no affine for `{product}` in the table ({', '.join(PRODUCTS)}): pass affine='header'")
    grid = PRODUCTS[product]
    # Another field of view would be another volume: its origin cannot be taken from the table.
    if not np.allclose(np.multiply(shape, spacing), np.multiply(grid.shape, grid.spacing), atol=1e-3):
        raise ValueError(
            f"the grid {tuple(shape)} of {tuple(float(s) for s in spacing)} mm is not that of {product}, {grid.shape} "
            f"of {grid.spacing} mm: pass affine='header' or 'identity'"
        )
    start = list(grid.start)
    for letter, new, old in zip(grid.axes, spacing, grid.spacing, strict=True):
        row, sign = DIRECTIONS[letter]
        start[row] += sign * (new - old) / 2  # the first face stays in place, so a larger voxel's centre moves inwards
    x, y, z = start
    return axes_affine(grid.axes, (spacing[0], spacing[1], spacing[2]), (x, y, z))


def choose_affine(
    policy: AffinePolicy,
    *,
    product: str,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    header: np.ndarray | None,
) -> tuple[np.ndarray, str]:
    """Return an affine (4, 4) and the policy that gave it, for a grid of `shape` voxels (x, y, z) of `spacing` mm.

    The policy `table` is the affine of the OASIS-1 product; `header` the file's, None if it has none; `identity`
    assumes axes of voxels to the right, front and top from 0 mm; `auto` is `table` for a `product` of `PRODUCTS`, else
    `header`.

    Raises:
        ValueError: if the policy gives no affine; the message names the remedy.
    """
    check_choice("affine", policy, get_args(AffinePolicy))
    if policy == "identity":
        return np.diag([*spacing, 1.0]), "identity"
    if policy == "table" or (policy == "auto" and product in PRODUCTS):
        return table_affine(product, shape, spacing), "table"
    if header is None:
        raise ValueError(
            "the header has neither sform nor qform, so nothing says where left and front are; if the voxel axes run "
            "to the right, front and top, pass affine='identity'"
        )
    return header, "header"
