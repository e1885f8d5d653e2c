"""Read one file into a `Volume`: NIfTI, Analyze 7.5 and MGH, either byte order, plain or gz, single file or pair.

The header is read first; then the file is unpacked to where its header says that it ends, and must end there, before
nibabel decodes it: nibabel does not notice a file larger than its header says, a missing `.img` until its data are
used, or a wrong gzip checksum.
"""

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geovae.files import check_unpacked
from geovae.mri.steps.affines import AffinePolicy, Stored, choose_affine, stored_affine
from geovae.mri.steps.header import HEADER_BYTES, MGH_FLAG, Header, read_header
from geovae.mri.volume import Volume, voxel_sizes

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

SUFFIXES = (".nii", ".hdr", ".img", ".mgh", ".mgz")
SINGLE = (".nii", ".mgh", ".mgz")
PACKED = (".gz", ".mgz")
HEADER_FILE = 1 << 24  # bytes of a header of its own that are read: it may hold extensions
MGH_TAIL = 1 << 20  # bytes after the values of an MGH file, which may hold parameters of the scan
BLOCK = 512  # bytes: files that passed through tapes or archives of blocks are filled with zeros to a multiple of it
Place = tuple[np.ndarray, str, list[str]]  # affine (4, 4) in mm, what it comes from, and what a user should know
BEYOND = 1e6  # times the 99.9th percentile: damaged values; intensities of magnetic resonance have no unit


def read_volume(path: str | Path, *, affine: AffinePolicy = "header", product: str = "") -> Volume:
    """Return the volume (x, y, z) of a file as stored, float32, with its affine in mm.

    `path` is a `.nii`, or either half of an `.hdr`/`.img` pair, all with or without `.gz`, or FreeSurfer's `.mgz`.
    `affine` and `product` are as in `choose_affine`; Analyze stores no orientation: its `header` is nibabel's guess,
    LAS about the grid's middle.

    Raises:
        FileNotFoundError: for a missing file or half of a pair.
        ValueError: for a damaged file or an unsupported format; one sentence gives the reason.
    """
    header_path, image_path = both_halves(Path(path))
    single = image_path == header_path
    header, header_bytes = _read_header(header_path, single)
    image_bytes = _read_image(header, image_path)
    image = _open_image(header.kind, image_bytes if single else header_bytes, None if single else image_bytes)
    matrix, source, notes = _place(header, image.header, header_bytes, affine, product)
    data = np.asanyarray(image.dataobj).reshape(header.shape, order="F")
    _check_byte_order(data, Path(path).name)
    step: dict[str, Any] = {"step": "read", "file": Path(path).name, "format": header.kind, "dtype": header.dtype.str}
    step |= {"shape": list(header.shape), "spacing_mm": list(header.spacing), "affine": source, "notes": notes}
    return Volume(data.astype(np.float32), np.asarray(matrix, np.float64), (step,))


def read_place(path: str | Path, *, affine: AffinePolicy = "header", product: str = "") -> Place:
    """Return the place of a file as `read_volume` finds it, without its values."""
    header_path, image_path = both_halves(Path(path))
    single = image_path == header_path
    header, header_bytes = _read_header(header_path, single)
    if single:  # with the extensions before the values, which nibabel reads
        header_bytes = unpack(header_path, max(header.offset, HEADER_BYTES))
    image = _open_image(header.kind, header_bytes, None if single else b"")
    return _place(header, image.header, header_bytes, affine, product)


def _read_header(path: Path, single: bool) -> tuple[Header, bytes]:
    content = unpack(path, HEADER_BYTES if single else HEADER_FILE)
    header = read_header(content, path.name)
    if header.offset > HEADER_FILE:  # refused before so much is unpacked
        raise ValueError(f"`{path.name}` puts its values at byte {header.offset:.3g}, beyond {HEADER_FILE}: damaged")
    if single and header.kind.startswith("nifti") and b"+" not in content[4:6] + content[344:347]:
        raise ValueError(f"`{path.name}` says that its values lie in an .img: rename it .hdr and add that")
    return header, content


def _place(header: Header, of_nibabel: Any, content: bytes, affine: AffinePolicy, product: str) -> Place:
    """Return the affine, its source and notes of a header, which nibabel has read from `content`."""
    # of an MGH file without its flag, nibabel would make up an orientation
    oriented = header.kind != "mgh" or content[MGH_FLAG] != bytes(2)
    stored = stored_affine(of_nibabel, header.kind) if oriented else Stored(None, "")
    matrix, source, notes = choose_affine(
        affine, product=product, shape=header.shape, spacing=header.spacing, stored=stored
    )
    return matrix, source, [*header.notes, *notes]


def both_halves(path: Path) -> tuple[Path, Path]:
    """Return the files of header and image; they are the same for `.nii`.

    Raises:
        FileNotFoundError: if one of them is missing.
        ValueError: for another suffix, or if only one of them is compressed.
    """
    packed = path.name.endswith(".gz")
    plain = path.with_name(path.name.removesuffix(".gz"))
    if plain.suffix not in SUFFIXES:
        raise ValueError(f"`{path.name}` must end in .nii, .hdr or .img, with or without .gz, or in .mgz")
    suffixes = (plain.suffix, plain.suffix) if plain.suffix in SINGLE else (".hdr", ".img")
    header, image = (plain.with_name(plain.stem + suffix + ".gz" * packed) for suffix in suffixes)
    for half in (header, image):
        other = half.with_name(half.name.removesuffix(".gz") if packed else half.name + ".gz")
        if half.is_file():
            continue
        if other.is_file():
            raise ValueError(f"`{path.name}` and `{other.name}`: compress both halves of a pair, or neither")
        raise FileNotFoundError(f"`{half}` is missing" + ("" if half == path else f", the partner of `{path.name}`"))
    return header, image


def unpack(path: Path, most: int) -> bytes:
    """Return up to `most` bytes of a file, uncompressed; where it ends before them, its checksum is verified."""
    try:
        with gzip.open(path) if path.name.endswith(PACKED) else path.open("rb") as file:
            return file.read(most)
    except EOFError as error:
        raise ValueError(f"`{path.name}` is truncated: its gzip stream has no end") from error
    except gzip.BadGzipFile as error:
        if "CRC" in str(error):
            what = "is damaged: its checksum is wrong, the values cannot be trusted"
        else:
            what = "is not compressed though its name says so: rename it, or compress it"
        raise ValueError(f"`{path.name}` {what}") from error
    except zlib.error as error:
        raise ValueError(f"`{path.name}` is damaged: {error}") from error


def check_values(data: np.ndarray) -> list[str]:
    """Return the problems of the values of a volume (x, y, z)."""
    low, high = float(data.min()), float(data.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = f"{int(data.size - np.isfinite(data).sum())} of {data.size} voxels are NaN or infinite"
        if np.isinf(data).any():
            return [f"{bad}: leave the volume out"]
        return [f"{bad}: if NaN stands for the background, as SPM and FSL write it, pass nan_background=true"]
    if low == high:
        return [f"constant: every voxel is {low:g}"]
    # every fourth voxel along each axis: percentiles of all would take longer than reading
    usual = float(np.percentile(np.abs(data[::4, ::4, ::4]), 99.9))
    if usual > 0 and max(abs(low), abs(high)) > BEYOND * usual:
        return [f"values from {low:g} to {high:g}, most below {usual:g}: damaged, or of another byte order or type?"]
    return []


def check_affine(affine: np.ndarray) -> list[str]:
    """Return the problems of an affine (4, 4), mm."""
    if not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
        return ["the affine holds NaN or infinity, or its last row is not 0 0 0 1"]
    sizes = voxel_sizes(affine)
    if min(sizes) <= 0 or abs(np.linalg.det(affine[:3, :3])) < 1e-3 * np.prod(sizes):
        return ["the affine is singular: voxels would lie in a plane; pass affine='table' or 'identity'"]
    return []


def _read_image(header: Header, path: Path) -> bytes:
    """Return an image file, unpacked; one of another size than its header says is refused before it is decoded.

    Up to a block of zeros after the values, which nibabel does not read either, is no such difference.
    """
    expected = header.offset + math.prod(header.stored) * header.dtype.itemsize
    size, most = path.stat().st_size, expected + (MGH_TAIL if header.kind == "mgh" else BLOCK + 1)
    if not size:
        raise ValueError(f"`{path.name}` is empty")
    packed = path.name.endswith(PACKED)
    if packed:
        check_unpacked(f"`{path.name}`, by its header,", expected, size)
    data = unpack(path, most)
    size = len(data) if packed else size
    is_filled = size % BLOCK == 0 and size - expected <= BLOCK and not any(data[expected:])
    if size < expected or (size > expected and not is_filled and header.kind != "mgh"):
        what = "longer than its header says" if size > expected else "truncated"
        held = f"more than {expected}" if packed and size > expected else f"{size}"
        raise ValueError(f"`{path.name}` holds {held} bytes, its header calls for {expected}: it is {what}")
    return data


def _open_image(kind: str, header: bytes, image: bytes | None) -> "SpatialImage":
    """Return the nibabel image over bytes in memory; `image` is None for a single file."""
    import nibabel as nib
    from nibabel.fileholders import FileHolder

    # AnalyzeImage by name: `nib.load` would choose SPM's variant, and obey stray `.mat` files.
    pairs: dict[str, Any] = {"analyze": nib.AnalyzeImage, "nifti1": nib.Nifti1Pair, "nifti2": nib.Nifti2Pair}
    singles: dict[str, Any] = {"nifti1": nib.Nifti1Image, "nifti2": nib.Nifti2Image, "mgh": nib.MGHImage}
    cls = (singles if image is None else pairs).get(kind)
    if cls is None:
        raise ValueError("an Analyze header in a `.nii` file: Analyze needs a pair, .hdr and .img")
    first = FileHolder(fileobj=io.BytesIO(header))
    files = {"header": first, "image": first if image is None else FileHolder(fileobj=io.BytesIO(image))}
    try:
        opened: SpatialImage = cls.from_file_map(files)
    except Exception as error:  # nibabel raises many types for headers that it cannot use
        raise ValueError(f"nibabel cannot read the header: {error}") from error
    return opened


def _check_byte_order(data: np.ndarray, name: str) -> None:
    """Refuse integers that become far smoother with their bytes swapped: the header's byte order is wrong."""
    if data.dtype.kind not in "iu" or data.dtype.itemsize != 2:
        return
    # One plane is enough: swapped bytes turn neighbours that differ by one grey into jumps of hundreds.
    middle = data[:, :, data.shape[2] // 2]
    # Multiples of 256 are 8-bit values that a writer shifted: swapped, they are smoother and wrong.
    if not (middle & 255).any():
        return
    rough, smooth = (float(np.abs(np.diff(a.astype(np.float64), axis=0)).mean()) for a in (middle, middle.byteswap()))
    if rough > 1000 and smooth < rough / 4:
        raise ValueError(
            f"`{name}` holds values from {data.min()} to {data.max()} that are smooth only with bytes swapped: its "
            "header has the wrong byte order"
        )
