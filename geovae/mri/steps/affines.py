"""Where a volume lies: the affine of an OASIS-1 product from a table, of the header, or the identity.

The origin in OASIS-1's headers is garbage (ASCII spaces). nibabel then assumes the middle of the grid, about 20 mm off
in y and 13 mm in z for T88_111, and the axes of SUBJ_111 and RAW are not those that Analyze prescribes (ASL, not LAS).
T88 is the space of Talairach's atlas, not MNI.
"""

from typing import Any, Literal, NamedTuple, get_args

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


class Stored(NamedTuple):
    """The orientation that a file itself gives."""

    affine: np.ndarray | None  # (4, 4), mm; None if nothing in the file says where left and front are
    source: str  # `sform`, `qform`, `ras` (MGH), or `guess` (Analyze: LAS about the middle)
    notes: tuple[str, ...] = ()  # what a user should know


def stored_affine(header: Any, kind: str) -> Stored:
    """Return the affine of a nibabel header: of NIfTI that of a valid sform, else of a valid qform, in mm.

    A form is valid if its code is above 0 and its matrix finite and not singular. `kind` is as in `Header`.
    """
    if kind == "analyze":
        return Stored(header.get_best_affine(), "guess")
    if kind == "mgh":
        return Stored(header.get_affine(), "ras")
    scale = np.diag([*[millimetres(header)] * 3, 1.0])
    forms = {name: scale @ affine for name in ("sform", "qform") if (affine := _valid_form(header, name)) is not None}
    notes = [
        f"its {name} has code {int(header[f'{name}_code'])} but a matrix of no use: the {other} is taken"
        for name, other in (("sform", "qform"),)
        if int(header[f"{name}_code"]) > 0 and name not in forms and other in forms
    ]
    axes = {name: axes_of(affine) for name, affine in forms.items()}
    if len(set(axes.values())) > 1:
        notes.append(f"its sform says {axes['sform']} and its qform {axes['qform']}: the sform is taken")
    if not forms:
        return Stored(None, "", tuple(notes))
    name, affine = next(iter(forms.items()))
    return Stored(affine, name, tuple(notes))


def millimetres(header: Any) -> float:
    """Return the length of a NIfTI header's unit of space in mm; files that name none use mm."""
    return {1: 1000.0, 3: 0.001}.get(int(header["xyzt_units"]) & 7, 1.0)


def axes_of(affine: np.ndarray) -> str:
    """Return the letters of the sides that the voxel axes of `affine` (4, 4) grow to, such as `LAS`."""
    from nibabel.orientations import aff2axcodes

    return "".join(aff2axcodes(affine))


def _valid_form(header: Any, name: str) -> np.ndarray | None:
    """Return the matrix (4, 4) of `sform` or `qform` in the header's unit, None if it is unset or of no use."""
    if int(header[f"{name}_code"]) <= 0:
        return None
    try:
        affine = np.asarray(getattr(header, f"get_{name}")(), np.float64)
    except Exception:  # nibabel refuses quaternions that are none, by several types of error
        return None
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    valid = np.isfinite(affine).all() and sizes.min() > 0
    return affine if valid and abs(np.linalg.det(affine[:3, :3])) >= 1e-3 * np.prod(sizes) else None


def choose_affine(
    policy: AffinePolicy,
    *,
    product: str,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    stored: Stored,
) -> tuple[np.ndarray, str, list[str]]:
    """Return an affine (4, 4), its source and notes, for a grid of `shape` voxels (x, y, z) of `spacing` mm.

    The policy `table` is the affine of the OASIS-1 product; `header` the file's; `identity` assumes axes of voxels to
    the right, front and top from 0 mm. `auto` is the file's where it says which way its axes run, whatever its name;
    only if it does not, or holds what converters of Analyze write instead, a `product` of `PRODUCTS` has the table's.

    Raises:
        ValueError: if the policy gives no affine; the message names the remedy.
    """
    check_choice("affine", policy, get_args(AffinePolicy))
    if policy == "identity":
        return np.diag([*spacing, 1.0]), "identity", []
    known = product in PRODUCTS
    if policy == "table" or (policy == "auto" and known and _is_placeholder(stored, product, shape, spacing)):
        return table_affine(product, shape, spacing), "table", []
    if stored.affine is None:
        raise ValueError(
            "the header has neither a valid sform nor qform, so nothing says where left and front are; if the voxel "
            "axes run to the right, front and top, pass affine='identity'"
        )
    notes = list(stored.notes)
    if known and policy == "auto":
        notes += _disagreement(stored, product, shape, spacing)
    return stored.affine, stored.source, notes


def _is_placeholder(
    stored: Stored, product: str, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> bool:
    """Return whether a file says nothing of its orientation, or just what converters of Analyze write: a guess.

    That is LAS about the middle of the product's grid as it is stored. The same file turned to other axes has another
    affine, so it is read by its header.
    """
    if stored.affine is None or stored.source == "guess":
        return True
    grid = PRODUCTS[product]
    if not np.allclose(np.multiply(shape, spacing), np.multiply(grid.shape, grid.spacing), atol=1e-3):
        return False
    x, y, z = (float((n - 1) / 2 * size) for n, size in zip(shape, spacing, strict=True))
    # a centre of n / 2 instead of (n - 1) / 2 is another converter's middle
    return bool(np.abs(stored.affine - axes_affine("LAS", spacing, (x, -y, -z))).max() <= max(spacing) / 2 + 1e-3)


def _disagreement(
    stored: Stored, product: str, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> list[str]:
    """Return a note if the header places an OASIS-1 product otherwise than the table does."""
    assert stored.affine is not None
    axes, usual = axes_of(stored.affine), PRODUCTS[product].axes
    if axes != usual:
        return [f"its {stored.source} says {axes}, the table of OASIS-1 {usual} for {product}: the header is taken"]
    try:
        off = np.abs(stored.affine - table_affine(product, shape, spacing)).max()
    except ValueError:
        return []  # another grid, of which the table says nothing
    return [f"its {stored.source} is off the table of OASIS-1 by {off:.1f} mm: the header is taken"] if off > 1 else []
