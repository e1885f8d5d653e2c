"""The bytes of a volume: find both halves of a pair, unpack, and compare the size with what the header says.

nibabel does not notice a file larger than its header says, a missing `.img` until its data are wanted, or (where it
reads only a part) a wrong checksum of gzip; so files are read whole, and to the end, before nibabel sees them.
"""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ANALYZE_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"}
NIFTI_TYPES = ANALYZE_TYPES | {256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
OTHER_TYPES = {
    1: "1-bit",
    32: "complex",
    128: "RGB",
    1536: "128-bit float",
    1792: "complex",
    2048: "complex",
    2304: "RGBA",
}
SUFFIXES = (".nii", ".hdr", ".img")


@dataclass(frozen=True, eq=False)
class RawFile:
    """The parts of one volume in memory.

    Attributes:
        kind: `nifti1`, `nifti2` or `analyze`, single file or pair.
        header: bytes of the header file (of a single file, all of it).
        image: bytes of the image file.
        shape: without trailing ones, (x, y, z).
        spacing: edge lengths (3,) of a voxel as the header has them, mm.
        dtype: type of the stored values, with its byte order.
        oriented: whether the header says how the volume lies (NIfTI with sform or qform).
        pair: whether header and image are two files.
    """

    kind: str
    header: bytes
    image: bytes
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    dtype: np.dtype
    oriented: bool
    pair: bool


def read_bytes(path: str | Path) -> RawFile:
    """Return the bytes of `path`: `.nii`, or either half of an `.hdr`/`.img` pair, both with or without `.gz`.

    Raises:
        FileNotFoundError: for a missing file or half of a pair.
        ValueError: for damage or an unsupported format; one sentence.
    """
    header_path, image_path = both_halves(Path(path))
    header = unpack(header_path)
    image = header if image_path == header_path else unpack(image_path)
    facts = read_header(header, header_path.name)
    due, held = facts.pop("offset") + math.prod(facts.pop("dim")) * facts["dtype"].itemsize, len(image)
    if held != due:
        what = "truncated" if held < due else "longer than its header says"
        raise ValueError(f"`{image_path.name}` holds {held} bytes, its header calls for {due}: it is {what}")
    return RawFile(header=header, image=image, pair=image_path != header_path, **facts)


def both_halves(path: Path) -> tuple[Path, Path]:
    """Return the files of header and image; they are the same for `.nii`."""
    packed = path.name.endswith(".gz")
    plain = path.with_name(path.name.removesuffix(".gz"))
    if plain.suffix not in SUFFIXES:
        raise ValueError(f"`{path.name}` must end in .nii, .hdr or .img, with or without .gz")
    if plain.suffix == ".nii":
        halves = (path, path)
    else:
        end = ".gz" if packed else ""
        halves = (plain.with_name(plain.stem + ".hdr" + end), plain.with_name(plain.stem + ".img" + end))
    for half in halves:
        other = half.with_name(half.name.removesuffix(".gz") if packed else half.name + ".gz")
        if half.is_file():
            continue
        if other.is_file():
            raise ValueError(f"`{path.name}` and `{other.name}`: compress both halves of a pair, or neither")
        raise FileNotFoundError(f"`{half}` is missing" + ("" if half == path else f", the partner of `{path.name}`"))
    return halves


def unpack(path: Path) -> bytes:
    """Return the content of a file, uncompressed to the end, so that its checksum is verified."""
    data = path.read_bytes()
    if not data:
        raise ValueError(f"`{path.name}` is empty")
    if not path.name.endswith(".gz"):
        return data
    try:
        return gzip.decompress(data)
    except EOFError as error:
        raise ValueError(f"`{path.name}` is truncated: its gzip stream has no end") from error
    except gzip.BadGzipFile as error:
        what = "its checksum is wrong, the values cannot be trusted" if "CRC" in str(error) else "it is no gzip file"
        raise ValueError(f"`{path.name}` is damaged: {what}") from error
    except (zlib.error, struct.error) as error:
        raise ValueError(f"`{path.name}` is damaged: {error}") from error


def read_header(header: bytes, name: str) -> dict[str, Any]:
    """Return kind, oriented, shape, spacing, dtype, dim (as stored) and offset of a NIfTI-1, -2 or Analyze header."""
    kind, order = _kind(header, name)
    if kind == "nifti2":
        dim = struct.unpack_from(order + "8q", header, 16)
        spacing = struct.unpack_from(order + "8d", header, 104)[1:4]
        (code,) = struct.unpack_from(order + "h", header, 12)
        (offset,) = struct.unpack_from(order + "q", header, 168)
        forms = struct.unpack_from(order + "2i", header, 344)
    else:
        dim = struct.unpack_from(order + "8h", header, 40)
        spacing = struct.unpack_from(order + "8f", header, 76)[1:4]
        (code,) = struct.unpack_from(order + "h", header, 70)
        (offset,) = struct.unpack_from(order + "f", header, 108)
        forms = struct.unpack_from(order + "2h", header, 252)
    nifti = kind != "analyze"
    sizes = dim[1 : dim[0] + 1]
    shape = _three_dimensions(sizes, name)
    if not all(np.isfinite(spacing)) or min(spacing) <= 0:
        raise ValueError(f"`{name}` gives the voxel sizes {_tuple(spacing)}: all must be above 0 mm")
    return {
        "kind": kind,
        "shape": shape,
        "spacing": spacing,
        "dtype": _dtype(code, order, NIFTI_TYPES if nifti else ANALYZE_TYPES, name),
        "oriented": nifti and any(form > 0 for form in forms),
        "dim": sizes,
        "offset": int(offset) if np.isfinite(offset) and offset > 0 else 0,
    }


def _kind(header: bytes, name: str) -> tuple[str, str]:
    """Return the format, and the byte order as struct writes it."""
    for order in "<>":
        size = struct.unpack_from(order + "i", header)[0] if len(header) >= 348 else 0
        if size == 540 and len(header) >= 540 and header[4:6] in (b"n+", b"ni"):
            return "nifti2", order
        if size == 348:
            return ("nifti1" if header[344:347] in (b"n+1", b"ni1") else "analyze"), order
    raise ValueError(f"`{name}` is neither NIfTI nor Analyze: its header starts with {header[:8]!r}")


def _three_dimensions(sizes: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """Return (x, y, z) of stored sizes, which may end in ones."""
    shape = list(sizes)
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if not shape or min(shape) < 1:
        raise ValueError(f"`{name}` gives the dimensions {_tuple(sizes)}: all must be at least 1")
    if len(shape) == 4:
        raise ValueError(f"`{name}` holds {shape[3]} time points, shape {_tuple(sizes)}: one volume is needed")
    if len(shape) != 3 or 1 in shape:
        flat = sum(n > 1 for n in shape)
        raise ValueError(f"`{name}` is {flat}-dimensional, shape {_tuple(sizes)}: a volume (x, y, z) is needed")
    return shape[0], shape[1], shape[2]


def _dtype(code: int, order: str, known: dict[int, str], name: str) -> np.dtype:
    """Return the type of a code of the format, in the byte order `<` or `>`."""
    if code in known:
        return np.dtype(order + known[code])
    what = OTHER_TYPES.get(code, "unknown")
    raise ValueError(f"`{name}` holds {what} values (data type {code}): plain integers or floats are needed")


def _tuple(values: tuple[Any, ...]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"
