"""Files written with struct and numpy alone, independent of the library's own writers; `prepare` with flat options."""

import gzip
import struct
from dataclasses import fields
from pathlib import Path

import numpy as np

from geovae.mri import Execution, Selection, Steps, prepare

GROUPS = {"selection": Selection, "steps": Steps, "execution": Execution}

CODES = {"u1": (2, 8), "i2": (4, 16), "i4": (8, 32), "f4": (16, 32), "f8": (64, 64)}


def analyze_header(
    shape, kind="i2", *, order=">", dims=4, pixdim=(1.0, 1.0, 1.0), code=None, dim=None, origin=b" " * 10
):
    """348 bytes of an Analyze 7.5 header."""
    known, bits = CODES[kind]
    sizes = dim or [dims, *shape, 1, 0, 0, 0]
    header = bytearray(348)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, *(sizes + [0] * (8 - len(sizes))))
    struct.pack_into(order + "hh", header, 70, known if code is None else code, bits)
    struct.pack_into(order + "8f", header, 76, 0, *pixdim, 0, 0, 0, 0)
    header[253:263] = origin
    return bytes(header)


def write_pair(path: Path, data, *, order=">", packed=False, **header):
    """An .hdr and .img pair next to `path` (without suffix); returns the image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = header.pop("kind", data.dtype.newbyteorder("=").str[1:])
    parts = {
        "hdr": analyze_header(data.shape, kind, order=order, **header),
        "img": data.astype(order + kind).tobytes(order="F"),
    }
    for end, content in parts.items():
        name = f"{path}.{end}" + (".gz" if packed else "")
        Path(name).write_bytes(gzip.compress(content) if packed else content)
    return Path(f"{path}.img" + (".gz" if packed else ""))


def head(shape=(20, 24, 22), seed=0):
    """A smooth blob in a black background, int16, left half brighter: (x, y, z) in RAS order."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    inside = (grid**2).sum(0) < 0.8
    values = 1500 + 400 * np.cos(3 * grid[1]) - 300 * grid[0] + 50 * np.random.default_rng(seed).random(shape)
    return np.where(inside, values, 0).astype(np.int16)


def to_axes(data, axes):
    """RAS data (x, y, z) stored with voxel axes such as `ASL`."""
    place = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    moved = data.transpose([place[a][0] for a in axes])
    return moved[tuple(slice(None, None, place[a][1]) for a in axes)]


def affine_of(axes, shape, spacing=1.0, first=(0.0, 0.0, 0.0)):
    """The affine of `to_axes(data, axes)`, where data have this shape in RAS order and their first voxel at `first`."""
    place = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    affine[:3, 3] = first
    for column, letter in enumerate(axes):
        row, sign = place[letter]
        affine[row, column] = sign * spacing
        if sign < 0:
            affine[row, 3] += spacing * (shape[row] - 1)
    return affine


def oasis_tree(folder: Path, n=6, shape=(176 // 8, 208 // 8, 176 // 8), *, order="<", packed=True, kind="f4"):
    """A tree with other choices: little-endian floats, 3-D, packed, origins of digits, disc names in capitals, xlsx."""
    lines = [["ID", "M/F", "Hand", "Age", "Educ", "SES", "MMSE", "CDR", "eTIV", "nWBV", "ASF", "Delay"]]
    for i in range(n):
        number = 3 * i + 2
        for visit in (1, 2) if i == 1 else (1,):
            id = f"OAS1_{number:04d}_MR{visit}"
            data = to_axes(head(shape, seed=number), "LAS").astype(kind)
            name = f"{id}_mpr_n{3 + i % 3}_anon_111_t88_masked_gfc"
            place = folder / f"DISC{i % 2}" / id / "PROCESSED" / "MPRAGE" / "T88_111" / name
            write_pair(place, data, order=order, packed=packed, dims=3, pixdim=(8.0, 8.0, 8.0), origin=b"1234567890")
            cdr = [None, 0, 0.5, 1][i % 4]
            lines.append([id, "FM"[i % 2], "R", 20 + 10 * i, 2, 3, 29, cdr, 1500, 0.8, 1.1, None])
    return lines


def prepare_with(source, root, **options):
    """`prepare`, with options by name, whichever dataclass holds them."""
    groups = {}
    for name, cls in GROUPS.items():
        groups[name] = cls(**{f.name: options.pop(f.name) for f in fields(cls) if f.name in options})
    assert not options
    return prepare(source, root, **groups)
