"""The facts of a header, from its bytes: NIfTI-1, NIfTI-2, Analyze 7.5 and FreeSurfer's MGH, in either byte order."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from geovae.mri.steps.affines import millimetres

HEADER_BYTES = 540  # NIfTI-2; NIfTI-1 and Analyze need 348, MGH 284
MGH_BYTES, MGH_FLAG = 284, slice(28, 30)  # the flag says whether the orientation is set


@dataclass(frozen=True, eq=False)
class Header:
    """The facts of a header."""

    kind: str  # nifti1, nifti2, analyze or mgh
    stored: tuple[int, ...]  # dimensions, which may end in ones
    shape: tuple[int, int, int]  # (x, y, z) voxels, `stored` without these ones
    spacing: tuple[float, float, float]  # edge lengths of a voxel, mm
    dtype: np.dtype[Any]  # of the stored values, with its byte order
    offset: int  # bytes before the first value
    notes: tuple[str, ...] = ()  # what a user should know


def read_header(header: bytes, name: str) -> Header:
    """Return the facts of a NIfTI-1, NIfTI-2, Analyze or MGH header, from its bytes (or more).

    Raises:
        ValueError: for another format, dimensions other than three, voxels of no size, or values that are no numbers.
    """
    import nibabel as nib

    kind, order = _identify(header, name)
    if kind == "mgh":
        return _read_mgh_header(header, name)
    parsers: dict[str, Any] = {"nifti1": nib.Nifti1Header, "nifti2": nib.Nifti2Header, "analyze": nib.AnalyzeHeader}
    length = 540 if kind == "nifti2" else 348
    # Without `check`, which would repair dimensions and voxel sizes in silence: they are checked below.
    fields: Any = parsers[kind](header[:length], endianness=order, check=False)
    n_dimensions = max(int(fields["dim"][0]), 0)
    stored = tuple(int(n) for n in fields["dim"][1 : n_dimensions + 1])
    is_nifti = kind != "analyze"
    unit = millimetres(fields) if is_nifti else 1.0
    # old NIfTI writers put the sign of an axis here; the forms carry it, so nibabel too takes the size
    sizes = tuple(float(size) for size in fields["pixdim"][1:4])
    x, y, z = (abs(size) * unit if is_nifti else size for size in sizes)
    offset = float(fields["vox_offset"])
    if is_nifti and any(math.isinf(float(fields[name])) for name in ("scl_slope", "scl_inter")):
        raise ValueError(f"`{name}` scales its values by infinity: damaged")  # NaN says that nothing is scaled
    return Header(
        kind=kind,
        stored=stored,
        shape=_three_dimensions(stored, name),
        spacing=_checked_spacing((x, y, z), name),
        dtype=_dtype(fields, name),
        offset=int(offset) if math.isfinite(offset) and offset > 0 else 0,
        notes=_notes(sizes) if is_nifti else (),
    )


def _read_mgh_header(header: bytes, name: str) -> Header:
    from nibabel.freesurfer.mghformat import MGHHeader

    fields: Any = MGHHeader(header[:MGH_BYTES], check=False)
    stored = tuple(int(n) for n in fields["dims"])
    x, y, z = (float(size) for size in fields["delta"])
    try:
        dtype = np.dtype(fields.get_data_dtype()).newbyteorder(">")
    except KeyError:
        code = int(fields["type"])
        raise ValueError(f"`{name}` holds values of type {code}: plain integers or floats are needed") from None
    shape = _three_dimensions(stored, name)
    return Header("mgh", stored, shape, _checked_spacing((x, y, z), name), dtype, MGH_BYTES)


def _notes(sizes: tuple[float, ...]) -> tuple[str, ...]:
    return (f"its voxel sizes are {_tuple(sizes)}: taken without the signs",) if min(sizes) < 0 else ()


def _checked_spacing(spacing: tuple[float, float, float], name: str) -> tuple[float, float, float]:
    if not min(spacing) > 0 or not math.isfinite(sum(spacing)):
        raise ValueError(f"`{name}` gives the voxel sizes {_tuple(spacing)}: all must be above 0 mm")
    return spacing


def _identify(header: bytes, name: str) -> tuple[str, str]:
    """Return the format and the byte order, `<` or `>`, by the first field: the header's own size, or MGH's version."""
    if header[:4] == b"\0\0\0\1" and len(header) >= MGH_BYTES:
        return "mgh", ">"
    # nibabel guesses the byte order from the number of dimensions, so a damaged one would be read the wrong way round.
    for order in "<>":
        size = int.from_bytes(header[:4], "little" if order == "<" else "big")
        if size == 540 <= len(header) and header[4:6] in (b"n+", b"ni"):
            return "nifti2", order
        if size == 348 <= len(header):
            return ("nifti1" if header[344:347] in (b"n+1", b"ni1") else "analyze"), order
    raise ValueError(f"`{name}` is neither NIfTI, Analyze nor MGH: its header starts with {header[:8]!r}")


def _three_dimensions(stored: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """Return (x, y, z) of stored dimensions, which may end in ones."""
    shape = list(stored)
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if not shape or min(shape) < 1:
        raise ValueError(f"`{name}` gives the dimensions {_tuple(stored)}: all must be at least 1")
    if len(shape) == 4:
        raise ValueError(f"`{name}` holds {shape[3]} time points, shape {_tuple(stored)}: one volume is needed")
    if len(shape) != 3 or 1 in shape:
        flat = sum(n > 1 for n in shape)
        raise ValueError(f"`{name}` is {flat}-dimensional, shape {_tuple(stored)}: a volume (x, y, z) is needed")
    return shape[0], shape[1], shape[2]


def _dtype(fields: Any, name: str) -> np.dtype[Any]:
    """Return the type of the values of a nibabel header, with its byte order: an integer or float of 1 to 8 bytes."""
    from nibabel.nifti1 import data_type_codes

    code = int(fields["datatype"])
    try:
        dtype: np.dtype[Any] = fields.get_data_dtype()
    except (KeyError, ValueError):  # a code that the format does not have
        dtype = np.dtype("V")
    if dtype.kind in "iuf" and dtype.itemsize <= 8:
        return dtype
    what = data_type_codes.label.get(code, "unknown")
    raise ValueError(f"`{name}` holds {what} values (data type {code}): plain integers or floats are needed")


def _tuple(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"
