"""Where a volume lies: affines of the OASIS-1 products, of headers, or none.

The origin in OASIS-1's headers is garbage (ASCII spaces), nibabel then takes the middle of the grid, about 20 mm off in
y and 13 mm in z for T88_111, and the axes of SUBJ_111 and RAW are not what Analyze prescribes (ASL, not LAS).
T88 is the space of Talairach's atlas, not MNI.
"""

from typing import Literal, NamedTuple

import numpy as np

AffinePolicy = Literal["auto", "table", "header", "identity"]


class Product(NamedTuple):
    """How an OASIS-1 product lies: axes by the letter of the side they grow to, grid, and mm of the first voxel."""

    axes: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    start: tuple[float, float, float]  # mm (x, y, z) of the first voxel's centre


PRODUCTS = {
    "t88_masked": Product("LAS", (176, 208, 176), (1, 1, 1), (87, -123, -75)),
    "subj": Product("ASL", (256, 256, 160), (1, 1, 1), (80, -128, -128)),
    "raw": Product("ASL", (256, 256, 128), (1, 1, 1.25), (80, -128, -128)),
}
PRODUCTS["t88"] = PRODUCTS["fseg"] = PRODUCTS["t88_masked"]
DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def axes_affine(axes: str, spacing: tuple[float, float, float], start: tuple[float, float, float]) -> np.ndarray:
    """Return the affine (4, 4) of voxel axes such as `LAS`, of voxels of `spacing` mm, the first one at `start` mm."""
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
    known = PRODUCTS[product]
    extent, due = np.multiply(shape, spacing), np.multiply(known.shape, known.spacing)
    if not np.allclose(extent, due, atol=1e-3):
        raise ValueError(
            f"the grid {tuple(shape)} of {tuple(float(s) for s in spacing)} mm is not that of {product}, {known.shape} "
            f"of {known.spacing} mm: pass affine='header' or 'identity'"
        )
    sides = [DIRECTIONS[letter] for letter in known.axes]
    start = list(known.start)
    for (row, sign), new, old in zip(sides, spacing, known.spacing, strict=True):
        start[row] += sign * (new - old) / 2  # the first face stays where it is
    x, y, z = start
    return axes_affine(known.axes, (spacing[0], spacing[1], spacing[2]), (x, y, z))


def choose_affine(
    policy: AffinePolicy,
    *,
    product: str,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    header: np.ndarray | None,
) -> tuple[np.ndarray, str]:
    """Return an affine (4, 4) and the policy that gave it.

    Args:
        policy: `table` takes the known affine of the OASIS-1 product; `header` the file's; `identity` takes the voxel
            axes as right, front and up, with the header's spacing, from 0 mm; `auto` is `table` for a grid of an
            OASIS-1 product, else `header`.
        product: a key of `PRODUCTS`, or any other name.
        shape: of the volume, voxels.
        spacing: edge lengths of a voxel, mm.
        header: the affine (4, 4) of the header, None if it has none.

    Raises:
        ValueError: if the policy gives none; the message names the remedy.
    """
    if policy not in ("auto", "table", "header", "identity"):
        raise ValueError(f"`affine` must be one of auto, table, header, identity, got {policy!r}")
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
