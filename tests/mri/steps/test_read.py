"""Reading, against nibabel on its own real files and against bytes; every bad file has its sentence."""

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from geovae.mri import read_volume
from geovae.mri.steps.header import HEADER_BYTES, read_header
from geovae.mri.steps.orient import canonical, resample
from geovae.mri.steps.read import check_values, read_place, unpack
from geovae.mri.synthetic.anatomy import template
from tests.mri.originals import analyze_header, head, to_axes, write_pair

REAL = Path(nib.__file__).parent / "tests" / "data"


def test_a_real_nifti_file_reads_as_nibabel_reads_it():
    volume = read_volume(REAL / "anatomical.nii")
    image = nib.load(REAL / "anatomical.nii")
    assert volume.shape == (33, 41, 25)
    assert volume.history[0]["dtype"] == ">i2"
    assert volume.data.dtype == np.float32
    assert volume.data.dtype.isnative
    np.testing.assert_array_equal(volume.data, image.get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(volume.affine, image.affine)
    closest = nib.as_closest_canonical(image)
    turned = canonical(volume)
    np.testing.assert_array_equal(turned.data, closest.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(turned.affine, closest.affine)


def test_a_real_file_of_several_time_points_is_refused():
    with pytest.raises(ValueError, match=r"`example4d.nii.gz` holds 2 time points, shape \(128, 96, 24, 2\)"):
        read_volume(REAL / "example4d.nii.gz")


def test_a_real_file_with_nan_is_noticed():
    volume = read_volume(REAL / "resampled_anat_moved.nii")
    assert "voxels are NaN or infinite" in check_values(volume.data)[0]


def test_a_real_header_without_its_image_is_refused():
    with pytest.raises(FileNotFoundError, match=r"analyze.img` is missing, the partner of `analyze.hdr`"):
        read_volume(REAL / "analyze.hdr")


def test_the_templates_of_nilearn_are_read_as_nibabel_reads_them():
    from importlib.util import find_spec

    folder = Path(find_spec("nilearn").origin).parent / "datasets" / "data"
    volume = read_volume(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    assert volume.shape == (197, 233, 189)
    np.testing.assert_array_equal(volume.data, template().t1)
    assert canonical(volume).data.base is not None  # no copy


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("half", ["hdr", "img"])
def test_analyze_pairs_of_every_kind_read_exactly(tmp_path, order, packed, kind, half):
    data = (head() / 20).astype(kind)
    image = write_pair(tmp_path / "a", data, order=order, packed=packed)
    volume = read_volume(str(image).replace(".img", f".{half}"))
    np.testing.assert_array_equal(volume.data, data.astype(np.float32))
    np.testing.assert_array_equal(volume.affine, nib.AnalyzeImage.from_filename(image).affine)


def test_a_stray_mat_file_changes_nothing(tmp_path):
    image = write_pair(tmp_path / "a", head())
    before = read_volume(image)
    (tmp_path / "a.mat").write_bytes(b"not a matrix")
    np.testing.assert_array_equal(read_volume(image).affine, before.affine)


@pytest.mark.parametrize("cls", [nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_nifti_of_every_kind_with_slopes(tmp_path, cls, packed):
    affine = np.diag([-2.0, 1.5, 3.0, 1.0])
    image = cls(head().astype(np.float32) / 7, affine)
    image.set_data_dtype(np.int16)
    path = tmp_path / ("a.nii" if "Image" in cls.__name__ else "a.img")
    nib.save(image, f"{path}{packed}")
    volume = read_volume(f"{path}{packed}")
    np.testing.assert_array_equal(volume.data, nib.load(f"{path}{packed}").get_fdata(dtype=np.float32))
    np.testing.assert_allclose(volume.affine, affine)


def good(folder):
    return write_pair(folder / "a", head())


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1000])


def longer(path):
    path.write_bytes(path.read_bytes() + b"0")


def two_blocks_longer(path):
    path.write_bytes(path.read_bytes() + bytes(-path.stat().st_size % 512 + 512))


def without_partner(path):
    path.with_suffix(".hdr").unlink()


def mixed(path):
    gz = Path(f"{path}.gz")
    gz.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def garbage(path):
    path.with_suffix(".hdr").write_bytes(bytes(range(256)) * 2)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (truncated, r"`a.img` holds 20120 bytes, its header calls for 21120: it is truncated"),
        (longer, r"`a.img` holds 21121 bytes, its header calls for 21120: it is longer than its header says"),
        (
            two_blocks_longer,
            r"`a.img` holds 22016 bytes, its header calls for 21120: it is longer than its header says",
        ),
        (mixed, r"compress both halves of a pair, or neither"),
        (empty, r"`a.img` is empty"),
        (garbage, r"`a.hdr` is neither NIfTI, Analyze nor MGH"),
    ],
)
def test_bad_files_are_refused(tmp_path, spoil, sentence):
    path = good(tmp_path)
    spoil(path)
    with pytest.raises(ValueError, match=sentence):
        read_volume(path)


def test_a_missing_partner_is_named(tmp_path):
    path = good(tmp_path)
    without_partner(path)
    with pytest.raises(FileNotFoundError, match=r"a.hdr` is missing, the partner of `a.img`"):
        read_volume(path)
    with pytest.raises(FileNotFoundError, match=r"b.nii` is missing"):
        read_volume(tmp_path / "b.nii")
    with pytest.raises(ValueError, match=r"`a.minc` must end in .nii, .hdr or .img"):
        read_volume(tmp_path / "a.minc")


def packed_nifti(folder):
    path = folder / "a.nii.gz"
    nib.save(nib.Nifti1Image(head(), np.eye(4)), path)
    return path, bytearray(path.read_bytes())


def test_a_wrong_checksum_is_noticed(tmp_path):
    path, content = packed_nifti(tmp_path)
    content[-8] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`a.nii.gz` is damaged: its checksum is wrong"):
        read_volume(path)


@pytest.mark.parametrize("read", [read_volume, read_place])
@pytest.mark.parametrize("offset", [2.0**25, 1e30])
def test_values_that_begin_too_late_are_refused_before_anything_is_unpacked(tmp_path, read, offset):
    content = bytearray(gzip.decompress(packed_nifti(tmp_path)[1]))
    content[108:112] = struct.pack("<f", offset)
    path = tmp_path / "late.nii.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match="puts its values at byte .*: damaged"):
        read(path)


def test_a_truncated_or_false_gzip_file_is_noticed(tmp_path):
    path, content = packed_nifti(tmp_path)
    path.write_bytes(content[:-200])
    with pytest.raises(ValueError, match=r"`a.nii.gz` is truncated: its gzip stream has no end"):
        read_volume(path)
    path.write_bytes(gzip.decompress(content))
    with pytest.raises(ValueError, match=r"`a.nii.gz` is not compressed though its name says so: rename it"):
        read_volume(path)
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`a.nii.gz` is damaged|truncated|longer than its header"):
        read_volume(path)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ({"dim": [4, 20, 24, 22, 5]}, r"holds 5 time points"),
        ({"dim": [5, 20, 24, 22, 1, 3]}, r"is 4-dimensional, shape \(20, 24, 22, 1, 3\)"),
        ({"dim": [2, 20, 24]}, r"is 2-dimensional, shape \(20, 24\)"),
        ({"dim": [3, 20, 24, 1]}, r"is 2-dimensional, shape \(20, 24, 1\)"),
        ({"dim": [3, 20, -4, 22]}, r"gives the dimensions \(20, -4, 22\): all must be at least 1"),
        ({"pixdim": (1, 0, 1)}, r"gives the voxel sizes \(1, 0, 1\): all must be above 0 mm"),
        ({"pixdim": (1, -1, 1)}, r"gives the voxel sizes \(1, -1, 1\)"),
        ({"pixdim": (1, float("nan"), 1)}, r"gives the voxel sizes \(1, nan, 1\)"),
        ({"code": 128}, r"holds RGB values \(data type 128\)"),
        ({"code": 32}, r"holds complex64 values \(data type 32\)"),
        ({"code": 77}, r"holds unknown values \(data type 77\)"),
    ],
)
def test_bad_headers_are_refused(tmp_path, header, sentence):
    path = good(tmp_path)
    path.with_suffix(".hdr").write_bytes(analyze_header((20, 24, 22), **header))
    with pytest.raises(ValueError, match=sentence):
        read_volume(path)


def test_a_header_of_the_wrong_byte_order_is_noticed(tmp_path):
    path = good(tmp_path)
    path.with_suffix(".hdr").write_bytes(analyze_header((20, 24, 22), order="<"))
    with pytest.raises(ValueError, match=r"smooth only with bytes swapped: its header has the wrong byte order"):
        read_volume(path)


def test_an_analyze_header_in_a_single_file_is_refused(tmp_path):
    content = analyze_header((20, 24, 22)) + head().tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(ValueError, match=r"its header calls for 21120|Analyze needs a pair"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".img"])
def test_zeros_that_fill_the_last_block_are_left_as_nibabel_leaves_them(tmp_path, ending):
    nib.save((nib.Nifti1Pair if ending == ".img" else nib.Nifti1Image)(head(), np.eye(4)), tmp_path / f"a{ending}")
    path = tmp_path / f"a{ending}"
    content = gzip.decompress(path.read_bytes()) if ending == ".nii.gz" else path.read_bytes()
    for filled in (content + bytes(-len(content) % 512), content + b"\1" + bytes(-len(content) % 512 - 1)):
        path.write_bytes(gzip.compress(filled) if ending == ".nii.gz" else filled)
        if b"\1" in filled[len(content) :]:
            with pytest.raises(ValueError, match="it is longer than its header says"):
                read_volume(path)
        else:
            np.testing.assert_array_equal(read_volume(path).data, nib.load(path).get_fdata(dtype=np.float32))


@pytest.mark.parametrize(("slope", "inter"), [(0, 0), (0, 7), (np.nan, np.nan), (1000, 0), (-2, 5)])
def test_slopes_mean_what_nibabel_says(tmp_path, slope, inter):
    nib.save(nib.Nifti1Image(head(), np.eye(4)), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<2f", content, 112, slope, inter)
    (tmp_path / "a.nii").write_bytes(content)
    theirs = nib.load(tmp_path / "a.nii").get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").data, theirs)


@pytest.mark.parametrize("field", ["scl_slope", "scl_inter"])
def test_values_scaled_by_infinity_are_refused(tmp_path, field):
    image = nib.Nifti1Image(head(), np.eye(4))
    nib.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<f", content, {"scl_slope": 112, "scl_inter": 116}[field], float("inf"))
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(ValueError, match="`a.nii` scales its values by infinity"):
        read_volume(tmp_path / "a.nii")


def test_the_header_of_a_pair_is_no_single_file(tmp_path):
    nib.save(nib.Nifti1Image(head(), np.eye(4)), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(content[:344] + b"ni1" + content[347:])
    with pytest.raises(ValueError, match="`a.nii` says that its values lie in an .img"):
        read_volume(tmp_path / "a.nii")


def test_nifti_without_orientation_is_refused_and_identity_is_the_remedy(tmp_path):
    image = nib.Nifti1Image(head(), None)
    image.header.set_zooms((2, 2, 2))
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(ValueError, match=r"neither a valid sform nor qform.*pass affine='identity'"):
        read_volume(tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii", affine="identity")
    np.testing.assert_array_equal(volume.affine, np.diag([2, 2, 2, 1]))


def test_the_offset_of_a_nifti_file_counts(tmp_path):
    path, content = packed_nifti(tmp_path)
    plain = bytearray(gzip.decompress(content))
    assert struct.unpack_from("<f", plain, 108) == (352.0,)
    header = read_header(unpack(path, HEADER_BYTES), path.name)
    assert header.offset == 352
    assert len(plain) == 352 + 20 * 24 * 22 * 2


def test_stored_axes_come_back_in_order(tmp_path):
    data = head()
    image = nib.Nifti1Image(
        to_axes(data, "ASL"), np.array([[0, 0, -1, 19], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    )
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(canonical(read_volume(tmp_path / "a.nii")).data, data)


@pytest.mark.parametrize("data", [head().astype(np.float32) * 1000, head() * np.float32(1e9), head() / 1000 - 1])
def test_intensities_have_no_unit(data):
    assert check_values(data.astype(np.float32)) == []


def test_eight_bits_shifted_to_sixteen_are_read(tmp_path):
    data = (head() // 10).astype(np.uint16) * 256
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").data, data)


def test_a_grid_is_measured_before_it_is_made(tmp_path):
    nib.save(nib.Nifti1Image(head(), np.diag([1000, 1000, 1000, 1])), tmp_path / "a.nii")
    with pytest.raises(ValueError, match=r"spans 2e\+04 x 2.4e\+04 x 2.2e\+04 mm.*is the unit of its header wrong"):
        resample(read_volume(tmp_path / "a.nii"), 1.0)


def test_a_fourth_dimension_of_no_size_holds_no_voxel_for_nibabel_either(tmp_path):
    nib.save(nib.Nifti1Image(head(), np.eye(4)), tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<2h", raw, 40, 4, 20)
    struct.pack_into("<h", raw, 48, 0)
    (tmp_path / "a.nii").write_bytes(raw)
    assert nib.load(tmp_path / "a.nii").get_fdata().size == 0
    with pytest.raises(ValueError, match=r"gives the dimensions \(20, 24, 22, 0\): all must be at least 1"):
        read_volume(tmp_path / "a.nii")
