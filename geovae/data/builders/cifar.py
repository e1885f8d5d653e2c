"""CIFAR-10 from its python or binary batches, in a folder or still in the .tar.gz.

The python batches are pickles, and a pickle can call any function. Here the unpickler admits three NumPy names, for
which it has stand-ins that build arrays of bytes and nothing else; any other name is refused before it is imported.
"""

import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from geovae.data.builders.job import Job
from geovae.data.builders.published import make_builder
from geovae.data.download import list_originals
from geovae.data.npz import check_labels

TRAIN, TEST = tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch"
VALUES = 3 * 32 * 32
LARGEST = 1 << 27  # bytes of a batch that are read
ORIGINALS = list_originals(
    "https://www.cs.toronto.edu/~kriz/cifar.html",
    {"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    ["https://www.cs.toronto.edu/~kriz/"],
)
PUBLISHED = ORIGINALS.md5() | {  # of the python version
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
HOW = (
    "`source` must be cifar-10-python.tar.gz, cifar-10-binary.tar.gz, or a folder with one of them or with "
    "data_batch_1 to data_batch_5 and test_batch (each .bin in the binary version)"
)


def _byte_type(code: bytes | str, *_: int) -> np.dtype:
    """Replace numpy.dtype: a batch needs unsigned bytes only."""
    if code not in (b"u1", "u1"):
        raise pickle.UnpicklingError(f"it asks for an array of {code!r}, which is not admitted")
    return np.dtype(np.uint8)


def _empty_array(*_: Any) -> np.ndarray:
    """Replace NumPy's private `_reconstruct`: return an array whose content the pickle sets next."""
    return np.empty(0, np.uint8)


ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): object(),  # passed to `_reconstruct` only: numpy.ndarray(shape) shows uninitialised memory
    ("numpy", "dtype"): _byte_type,
}


def read_batch(data: bytes, where: str, *, binary: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the images, uint8 (n, 32, 32, 3), and labels, int64 (n,), of one batch.

    Raises:
        ValueError: if the batch is damaged, truncated, or not CIFAR-10.
    """
    pixels, labels = _parse_binary(data, where) if binary else _parse_python(data, where)
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != VALUES or not len(pixels):
        raise ValueError(f"{where} must hold uint8 images (n, {VALUES}), got {pixels.dtype} {pixels.shape}")
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images, check_labels(labels, len(images), (0, 9), f"labels of {where}").numpy()


def _parse_binary(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Split rows of one label byte and 3,072 pixel bytes."""
    if not data or len(data) % (1 + VALUES):
        raise ValueError(f"{where} has {len(data)} bytes, not a multiple of {1 + VALUES}: truncated, or not CIFAR-10?")
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + VALUES)
    return rows[:, 1:], rows[:, 0]


def _parse_python(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a pickled dictionary of `data` and `labels`, whose keys are bytes."""
    try:
        batch = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise nearly any type
        raise ValueError(f"{where} cannot be read (truncated, or not a CIFAR-10 batch?): {error}") from error
    if not isinstance(batch, dict) or b"data" not in batch:
        raise ValueError(f"{where} is not a CIFAR-10 batch: it has no `data`")
    if b"labels" not in batch:
        kind = "it looks like CIFAR-100" if b"fine_labels" in batch else "it has no `labels`"
        raise ValueError(f"{where} is not a CIFAR-10 batch: {kind}")
    return np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler of plain containers and NumPy arrays only."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the object for an admitted name; all others are refused."""
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not admitted")
        return ADMITTED[module, name]


def _find(source: Path) -> list[Path]:
    """Return the archive alone, or the six batch files, training batches first."""
    archives = [source, source / "cifar-10-python.tar.gz", source / "cifar-10-binary.tar.gz"]
    for archive in archives:
        if archive.is_file():
            return [archive]
    folders = (source, source / "cifar-10-batches-py", source / "cifar-10-batches-bin")
    for folder in folders:
        for end in ("", ".bin"):
            files = [folder / f"{name}{end}" for name in (*TRAIN, TEST)]
            exist = [path.is_file() for path in files]
            if all(exist):
                return files
            if any(exist):
                raise FileNotFoundError(f"`{files[exist.index(False)]}` does not exist, others do: {HOW}")
    raise FileNotFoundError(f"`{source}` holds no batches: {HOW}")


def _read_batches(files: list[Path]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images and labels by the name of the batch."""
    contents = {p.name: p.read_bytes() for p in files} if len(files) > 1 else _read_archive(files[0])
    batches = {}
    for name, data in contents.items():
        stem = name.removesuffix(".bin")
        batches[stem] = read_batch(data, f"batch `{name}` of `{files[0].parent}`", binary=name.endswith(".bin"))
    return batches


def _read_archive(path: Path) -> dict[str, bytes]:
    """Return the contents of the batch files of a tar archive; nothing is written to disk."""
    wanted = {*TRAIN, TEST}
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                if name.removesuffix(".bin") not in wanted or not member.isfile():
                    continue
                if member.size > LARGEST:
                    raise ValueError(f"`{name}` of `{path}` has {member.size} bytes; a batch has 31 million")
                file = archive.extractfile(member)
                assert file is not None  # it is a regular file
                found[name] = file.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        # The message of tarfile has one more line for each compression that it tried.
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise ValueError(f"`{path}` is not a sound tar archive (truncated download?): {reason}") from error
    missing = wanted - {name.removesuffix(".bin") for name in found}
    if missing:
        raise ValueError(f"`{path}` holds no {', '.join(sorted(missing))}: wrong archive? {HOW}")
    return found


def _write(job: Job, files: list[Path]) -> np.ndarray:
    """Write the training images and labels, and return the test images."""
    batches = _read_batches(files)
    images, labels = (np.concatenate(arrays) for arrays in zip(*(batches[name] for name in TRAIN), strict=True))
    job.save_npz("cifar_10.npz", x_train=images, y_train=labels)
    return batches[TEST][0]


build = make_builder("cifar", "cifar_10.npz", _find, _write, {"cifar": PUBLISHED})
