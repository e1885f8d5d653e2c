"""Read one file into a `Volume`: NIfTI-1, NIfTI-2 and Analyze 7.5, either byte order, plain or gz, single or pair."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geovae.mri.steps.affines import AffinePolicy, choose_affine
from geovae.mri.steps.files import RawFile, read_bytes
from geovae.mri.volume import Volume

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage


def read_volume(path: str | Path, *, affine: AffinePolicy = "header", product: str = "") -> Volume:
    """Return the volume (x, y, z) of a file as stored, float32, with its affine in mm.

    Args:
        path: `.nii`, or either half of an `.hdr`/`.img` pair, all with or without `.gz`.
        affine: see `choose_affine`. Analyze has no orientation: its `header` is nibabel's guess,
            LAS about the middle of the grid.
        product: of OASIS-1, for the table of affines.

    Raises:
        FileNotFoundError: for a missing file or half of a pair.
        ValueError: for a file that cannot be trusted; one sentence says why.
    """
    raw = read_bytes(path)
    image = open_image(raw)
    known = image.affine if raw.oriented or raw.kind == "analyze" else None
    matrix, policy = choose_affine(affine, product=product, shape=raw.shape, spacing=raw.spacing, header=known)
    data = np.asanyarray(image.dataobj).reshape(raw.shape, order="F")
    _check_byte_order(data, Path(path).name)
    step: dict[str, Any] = {"step": "read", "file": Path(path).name, "format": raw.kind, "dtype": raw.dtype.str}
    step |= {"shape": list(raw.shape), "spacing_mm": [float(s) for s in raw.spacing], "affine": policy}
    return Volume(data.astype(np.float32), np.asarray(matrix, np.float64), (step,))


def open_image(raw: RawFile) -> "SpatialImage":
    """Return the nibabel image over bytes in memory.

    AnalyzeImage is named for Analyze: `nib.load` would take SPM's variant, and obey stray `.mat` files.
    """
    import nibabel as nib
    from nibabel.fileholders import FileHolder

    classes = {
        ("analyze", True): nib.AnalyzeImage,
        ("nifti1", True): nib.Nifti1Pair,
        ("nifti1", False): nib.Nifti1Image,
        ("nifti2", True): nib.Nifti2Pair,
        ("nifti2", False): nib.Nifti2Image,
    }
    if (raw.kind, raw.pair) not in classes:
        raise ValueError("an Analyze header in a `.nii` file: Analyze needs a pair, .hdr and .img")
    image = FileHolder(fileobj=io.BytesIO(raw.image))
    files = {"image": image, "header": FileHolder(fileobj=io.BytesIO(raw.header)) if raw.pair else image}
    try:
        return classes[raw.kind, raw.pair].from_file_map(files)
    except Exception as error:
        raise ValueError(f"nibabel cannot read the header: {error}") from error


def _check_byte_order(data: np.ndarray, name: str) -> None:
    """Refuse integers that become far smoother with their bytes swapped: the header's byte order is wrong."""
    if data.dtype.kind not in "iu" or data.dtype.itemsize != 2:
        return
    middle = data[:, :, data.shape[2] // 2]
    swapped = middle.byteswap()
    rough, smooth = (float(np.abs(np.diff(a.astype(np.float64), axis=0)).mean()) for a in (middle, swapped))
    if rough > 1000 and smooth < rough / 4:
        raise ValueError(
            f"`{name}` holds values from {data.min()} to {data.max()} that are smooth only with bytes swapped: its "
            "header has the wrong byte order"
        )
