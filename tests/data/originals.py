"""Original distributions, a few images each, written the way that they are distributed."""

import gzip
import os
import shutil
import struct
import tarfile

import numpy as np
from PIL import Image


def noise(*shape, seed=0):
    """Different bytes everywhere, both ends of the range included."""
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    values.reshape(shape[0], -1)[:, :2] = 0, 255
    return values


def idx(values: np.ndarray) -> bytes:
    """An idx file: magic number with type and rank, big-endian sizes, bytes."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_mnist(folder, compressed=True, n=30):
    folder.mkdir()
    arrays = {
        "train-images-idx3-ubyte": noise(n, 28, 28),
        "train-labels-idx1-ubyte": (np.arange(n) % 10).astype(np.uint8),
        "t10k-images-idx3-ubyte": noise(7, 28, 28, seed=1),
        "t10k-labels-idx1-ubyte": np.arange(7, dtype=np.uint8),
    }
    for name, values in arrays.items():
        data = idx(values)
        path = folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(data, 1) if compressed else data)
    return arrays


def python2_pickle(value) -> bytes:
    """What Python 2 wrote for a CIFAR batch: protocol 2, text as byte strings, arrays through `numpy.core`."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value) -> bytes:
    if isinstance(value, bytes):
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(k) + _opcodes(v) for k, v in value.items()) + b"u"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    code = value.dtype.str[1:].encode()
    dtype = (
        b"cnumpy\ndtype\n(" + _opcodes(code) + b"K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    shape = b"(" + b"".join(_opcodes(n) for n in value.shape) + b"t"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + _opcodes(value.tobytes()) + b"tb"


def cifar_arrays(n=6):
    """Pixels (n, 3072), channel by channel, and labels of the six batches."""
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    return {
        name: (noise(n, 3072, seed=i), [int(v) for v in np.random.default_rng(i).integers(0, 10, n)])
        for i, name in enumerate(names)
    }


def write_cifar(folder, binary):
    folder.mkdir(parents=True)
    for name, (pixels, labels) in cifar_arrays().items():
        if binary:
            rows = np.column_stack([np.array(labels, np.uint8), pixels])
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
            continue
        batch = {
            b"batch_label": b"training batch 1 of 5",
            b"labels": labels,
            b"data": pixels,
            b"filenames": [f"picture_{i}.png".encode() for i in range(len(labels))],
        }
        (folder / name).write_bytes(python2_pickle(batch))


def write_cifar_archive(folder):
    """`cifar-10-python.tar.gz` alone."""
    write_cifar(folder / "cifar-10-batches-py", binary=False)
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    shutil.rmtree(folder / "cifar-10-batches-py")


def write_svhn(folder):
    from scipy.io import savemat

    folder.mkdir(parents=True)
    arrays = {"train": noise(30, 32, 32, 3), "test": noise(5, 32, 32, 3, seed=1)}
    for part, x in arrays.items():
        labels = (np.arange(len(x)) % 10 + 1).astype(np.uint8)[:, None]
        savemat(folder / f"{part}_32x32.mat", {"X": x.transpose(1, 2, 3, 0), "y": labels}, do_compression=True)
    return arrays


def write_faces(folder, n=12):
    """`n` aligned JPEG files and their partition: half for training, a quarter each for validation and test."""
    (folder / "img_align_celeba").mkdir(parents=True)
    lines = []
    for i in range(n):
        ramp = np.linspace(0, 255, 178)[None, :, None] * np.ones((218, 1, 3)) * [1, 0.5, i / n]
        Image.fromarray(ramp.astype(np.uint8)).save(folder / f"img_align_celeba/{i + 1:06d}.jpg", quality=95)
        lines.append(f"{i + 1:06d}.jpg {[0, 0, 1, 2][i % 4]}\n")
    (folder / "list_eval_partition.txt").write_text("".join(lines))


def write_faces_archive(folder, n=12):
    """The faces as one .zip, beside their partition."""
    write_faces(folder, n)
    shutil.make_archive(str(folder / "img_align_celeba"), "zip", folder, "img_align_celeba")
    shutil.rmtree(folder / "img_align_celeba")


def write_folder(folder, n=20):
    for c in ("a", "b"):
        (folder / c).mkdir(parents=True)
        for i, image in enumerate(noise(n, 9, 7, 3, seed=ord(c))):
            Image.fromarray(image).save(folder / c / f"{i:02d}.png")


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)
