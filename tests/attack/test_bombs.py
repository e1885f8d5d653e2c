"""Files that are small and unpack to gigabytes are refused by their headers, in little memory."""

import gzip
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from experiments.yaml_file import ConfigError, read_yaml
from geovae.data import npz
from geovae.data.builders.idx import read_idx
from geovae.data.svhn import read_mat
from geovae.files import check_unpacked, read_npz
from geovae.images.pictures import check_side
from geovae.models import build_model
from geovae.mri import read_volume
from geovae.mri.cohort.table import read_table

GIGABYTE = 1 << 30
LITTLE = 100 << 20  # bytes


@pytest.fixture(autouse=True)
def _in_little_memory():
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LITTLE


def zeros_in_gzip(path, head: bytes, n: int):
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(n >> 20):
            file.write(bytes(1 << 20))


def test_rules():
    check_unpacked("a", 100 << 20, 1)  # zeros, but they fit
    check_unpacked("a", GIGABYTE, GIGABYTE // 30)  # images
    with pytest.raises(ValueError, match="a unpacks from 1000 to 1073741824 bytes: a decompression bomb; store"):
        check_unpacked("a", GIGABYTE, 1000)
    with pytest.raises(ValueError, match="more than the memory of this machine"):
        check_unpacked("a", 1 << 60, 1 << 59)


def test_an_npz_of_zeros(tmp_path):
    head = np.lib.format.header_data_from_array_1_0(np.zeros((1, 2, 2, 1), np.uint8)) | {"shape": (300, 1024, 1024, 1)}
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("x_train.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, head)
        for _ in range(300):
            file.write(bytes(1 << 20))
    for read in (npz.read_images, read_npz):
        with pytest.raises(ValueError, match="decompression bomb"):
            read(tmp_path / "a.npz")


def test_a_mat_file_of_zeros(tmp_path):
    n = 32 * 32 * 3 * 100_000
    parts = struct.pack("<6I", 6, 8, 9, 0, 5, 16) + struct.pack("<4i", 32, 32, 3, 100_000)  # uint8, and the shape
    parts += struct.pack("<2I", 1, 1) + b"X".ljust(8, b"\0") + struct.pack("<2I", 2, n)
    packer = zlib.compressobj(9)
    content = packer.compress(struct.pack("<2I", 14, len(parts) + n) + parts)
    content += b"".join(packer.compress(bytes(1 << 20)) for _ in range(n >> 20)) + packer.compress(bytes(n % (1 << 20)))
    content += packer.flush()
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    (tmp_path / "a.mat").write_bytes(head + struct.pack("<2I", 15, len(content)) + content)
    with pytest.raises(ValueError, match="a.mat` unpacks from .* a decompression bomb"):
        read_mat(tmp_path / "a.mat")


def test_gzip_of_zeros(tmp_path):
    zeros_in_gzip(tmp_path / "a.gz", struct.pack(">4B3I", 0, 0, 8, 3, 2, 28, 28), 32 << 20)
    with pytest.raises(ValueError, match="should hold 1568 values for shape .*, got more than 1568"):
        read_idx(tmp_path / "a.gz")
    head = bytearray(struct.pack("<i", 348) + bytes(348))
    struct.pack_into("<8h", head, 40, 3, 1024, 1024, 600, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 2, 8)
    struct.pack_into("<4f", head, 76, 1, 1, 1, 1)
    struct.pack_into("<f", head, 108, 352)
    head[344:348] = b"n+1\0"
    zeros_in_gzip(tmp_path / "a.nii.gz", bytes(head[:352]), 8 << 20)
    with pytest.raises(ValueError, match="`a.nii.gz`, by its header, unpacks from .* a decompression bomb"):
        read_volume(tmp_path / "a.nii.gz")
    struct.pack_into("<8h", head, 40, 3, 10, 10, 10, 1, 1, 1, 1)
    zeros_in_gzip(tmp_path / "b.nii.gz", bytes(head[:352]), 32 << 20)
    with pytest.raises(ValueError, match="`b.nii.gz` holds more than 1352 bytes, its header calls for 1352"):
        read_volume(tmp_path / "b.nii.gz")


def test_a_sheet_with_a_cell_in_its_last_row_and_column(tmp_path):
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["ID", "Age"])
    book.active["XFD1048576"] = 1
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match="it has more than 50000 lines"):
        read_table(tmp_path / "a.xlsx", required=("id",))


def test_a_sheet_that_unpacks_to_gigabytes(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(70 << 20))
    with pytest.raises(ValueError, match="it unpacks to 73400320 bytes, at most 67108864 are read: save it as csv"):
        read_table(tmp_path / "a.xlsx")


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(10))}}}\n" for i in range(1, 9)),
        "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)),
        "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 9)),
    ],
    ids=["mappings", "lists", "merged"],
)
def test_aliases_that_multiply(text, tmp_path):
    (tmp_path / "a.yaml").write_text("a0: &a0 {x: 1}\n" + text)
    with pytest.raises(ConfigError, match="holds more than 100000 values, aliases resolved"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("a: &a {b: *a}\n")
    with pytest.raises(ConfigError, match="holds more than 100000 values"):
        read_yaml(tmp_path / "a.yaml")


def test_models_and_pictures_that_no_memory_holds():
    with pytest.raises(ValueError, match="`latent_dim` must be at most 1048576"):
        build_model("vae", (1, 28, 28), network="mlp", latent_dim=10**11)
    with pytest.raises(ValueError, match="would have .* weights, at most 2,147,483,648: choose smaller sizes"):
        build_model("vae", (1, 28, 28), network="mlp", width=1_000_000)
    with pytest.raises(ValueError, match="`size` must be a whole number from 1 to 4096, got 1000000"):
        check_side(1_000_000)
