"""The header decides where left and right are, whatever a file is called; right is computed by nibabel."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform

from geovae.mri import Selection, Session, Steps, inspect, process, read_archive, read_volume
from geovae.mri.steps.read import read_place
from tests.mri.originals import head, prepare_with, write_pair
from tests.mri.steps.test_space import ORDERS

SHAPE = (22, 26, 22)  # T88's field of view with voxels of 8 mm
T88 = np.array([[-8.0, 0, 0, 83.5], [0, 8, 0, -119.5], [0, 0, 8, -71.5], [0, 0, 0, 1]])
OASIS_NAME = "OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc"


def marked():
    """A head on T88's grid, LAS, with a block on the patient's right, in front (small first index: right)."""
    data = head(SHAPE).clip(0, 1000)
    data[5:8, 17:20, 9:14] = 4000
    return nib.Nifti1Image(data, T88)


def turned(axes):
    move = ornt_transform(axcodes2ornt("LAS"), axcodes2ornt(axes))
    image = marked().as_reoriented(move)
    image.set_sform(image.affine, 2)
    image.set_qform(image.affine, 2)
    return image


def right_of(path):
    """Where nibabel finds the marker, in mm."""
    image = nib.load(path)
    voxels = np.argwhere(image.get_fdata() == 4000)
    return nib.affines.apply_affine(image.affine, voxels).mean(0)


def prepared(path, product):
    session = Session("a", "a", 1, path, product)
    return process(session, Steps(mask="nonzero", spacing=None, shape=None, percentiles=(0, 100)))


@pytest.mark.parametrize("axes", ORDERS)
@pytest.mark.parametrize("ending", [".nii.gz", ".img"])
@pytest.mark.parametrize(("name", "product"), [(OASIS_NAME, "t88_masked"), ("s1", "flat")])
def test_a_valid_header_beats_the_name(tmp_path, axes, ending, name, product):
    path = tmp_path / f"{name}{ending}"
    image = turned(axes)
    nib.save(nib.Nifti1Pair.from_image(image) if ending == ".img" else image, path)
    done = prepared(path, product)
    bright = np.argwhere(done.volume.data == 1)
    found = nib.affines.apply_affine(done.volume.affine, bright).mean(0)
    np.testing.assert_allclose(found, right_of(path), atol=1e-3)
    assert found[0] > 20  # the patient's right
    _, columns = np.nonzero(done.pictures[0] == 255)
    assert columns.max() < 11  # radiological: the patient's right is on the left
    told = [w for w in done.numbers["warnings"] if "the header is taken" in w]
    assert told == (
        [f"its sform says {axes}, the table of OASIS-1 LAS for t88_masked: the header is taken"]
        if product == "t88_masked" and axes != "LAS"
        else []
    )


def test_a_cohort_of_mixed_orientations_comes_out_alike(tmp_path):
    source = tmp_path / "in"
    write_pair(source / OASIS_NAME, np.asarray(marked().dataobj), pixdim=(8, 8, 8))  # Analyze: by the table
    for number, axes in enumerate(("LAS", "RAS", "LPS", "PSR", "AIL"), start=2):
        nib.save(turned(axes), source / f"{OASIS_NAME.replace('0001', f'000{number}')}.nii.gz")
    report = prepare_with(source, tmp_path, table=None, spacing=None, shape=None, workers=1, progress=False)
    assert [line.partition(":")[0] for line in report["warnings"]] == [f"OAS1_000{n}_MR1" for n in (3, 4, 5, 6)]
    archive = read_archive(tmp_path)
    canonical = nib.as_closest_canonical(marked())
    middle = canonical.get_fdata()[:, :, round(0.5 * (SHAPE[2] - 1))]
    bright = np.rot90(middle)[:, ::-1] == 4000  # radiological
    for picture, affine in zip(archive["x_train"][..., 0], archive["affines"], strict=True):
        np.testing.assert_array_equal(picture, archive["x_train"][0, ..., 0])
        np.testing.assert_array_equal(picture == 255, bright)
        np.testing.assert_allclose(affine, archive["affines"][0], atol=1e-4)


def test_the_table_serves_analyze_and_what_converters_of_it_write(tmp_path):
    data = np.asarray(marked().dataobj)
    analyze = write_pair(tmp_path / OASIS_NAME, data, pixdim=(8.0, 8.0, 8.0))
    converted = tmp_path / f"{OASIS_NAME}.nii"
    nib.save(nib.Nifti1Image(data, nib.AnalyzeImage.from_filename(analyze).affine), converted)
    assert nib.load(converted).header["sform_code"] > 0  # nibabel states its guess
    bare = nib.Nifti1Image(data, None)
    bare.header.set_zooms((8, 8, 8))
    nib.save(bare, tmp_path / "bare.nii")
    for path in (analyze, converted, tmp_path / "bare.nii"):
        volume = read_volume(path, affine="auto", product="t88_masked")
        assert volume.history[0]["affine"] == "table"
        np.testing.assert_allclose(volume.affine, T88)


def test_a_converted_file_turned_to_other_axes_has_its_header(tmp_path):
    guess = nib.Nifti1Image.from_image(nib.AnalyzeImage(np.asarray(marked().dataobj), np.diag([-8.0, 8, 8, 1])))
    centred = np.diag([-8.0, 8, 8, 1])
    centred[:3, 3] = (84, -100, -84)
    guess.set_sform(centred, 2)
    nib.save(nib.as_closest_canonical(guess), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii", affine="auto", product="t88_masked")
    np.testing.assert_array_equal(volume.affine, nib.load(tmp_path / "a.nii").affine)
    assert volume.history[0]["affine"] == "sform"


def test_inspect_prints_where_the_axes_of_every_file_come_from(tmp_path):
    for number, axes in enumerate(("LAS", "RAS", "LAS", "PSR", "LAS", "RAS"), start=1):
        nib.save(turned(axes), tmp_path / f"{OASIS_NAME.replace('0001', f'000{number}')}.nii.gz")
    write_pair(tmp_path / OASIS_NAME.replace("0001", "0007"), np.asarray(turned("LAS").dataobj), pixdim=(8, 8, 8))
    text = inspect(tmp_path, selection=Selection(table=None), sample=1)
    for line in (
        "axes LAS by sform: 3   [OASIS-1: LAS]",
        "axes RAS by sform: 2: OAS1_0002_MR1, OAS1_0006_MR1\n",
        "axes PSR by sform: 1: OAS1_0004_MR1\n",
        "axes LAS by table: 1: OAS1_0007_MR1\n",
        "OAS1_0006_MR1: its sform says RAS, the table of OASIS-1 LAS for t88_masked: the header is taken\n",
    ):
        assert text.count(line) == 1, line


def test_numbers_of_oasis_1_stand_beside_its_files_alone(tmp_path):
    nib.save(turned("LAS"), tmp_path / "s1.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(turned("LAS").dataobj), None), tmp_path / "s2.nii.gz")
    text = inspect(tmp_path, selection=Selection(table=None))
    assert "OASIS-1" not in text
    assert "axes LAS by sform: 1\n" in text
    assert text.count("s2: the header has neither a valid sform nor qform") == 1


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".img", ".mgz"])
@pytest.mark.parametrize("axes", ORDERS[::7])
def test_a_header_alone_places_a_file_as_nibabel_does(tmp_path, axes, ending):
    image = turned(axes)
    if ending == ".mgz":
        image = nib.MGHImage(np.asarray(image.dataobj, np.float32), image.affine)
    elif ending != ".img":
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    nib.save(image, tmp_path / f"a{ending}")
    affine, source, notes = read_place(tmp_path / f"a{ending}", affine="auto")
    np.testing.assert_allclose(affine, nib.load(tmp_path / f"a{ending}").affine, atol=1e-4)
    assert (source, notes) == ("ras" if ending == ".mgz" else "sform", [])


def test_an_sform_of_zeros_leaves_the_qform(tmp_path):
    image = turned("PSR")
    image.header["sform_code"] = 1
    for row in "xyz":
        image.header[f"srow_{row}"] = 0
    (tmp_path / "a.nii").write_bytes(
        image.header.binaryblock + bytes(4) + np.asarray(image.dataobj).astype(image.get_data_dtype()).tobytes("F")
    )
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[108:112] = np.float32(352).tobytes()
    raw[344:348] = b"n+1\0"
    (tmp_path / "a.nii").write_bytes(raw)
    volume = read_volume(tmp_path / "a.nii", affine="auto")
    np.testing.assert_allclose(volume.affine, turned("PSR").get_qform(), atol=1e-4)
    assert volume.history[0]["affine"] == "qform"
    assert volume.history[0]["notes"] == ["its sform has code 1 but a matrix of no use: the qform is taken"]


def test_forms_that_disagree_are_named(tmp_path):
    image = turned("RAS")
    image.set_qform(turned("LAS").affine, 1)
    nib.save(image, tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").history[0]["notes"] == [
        "its sform says RAS and its qform LAS: the sform is taken"
    ]


@pytest.mark.parametrize(("unit", "size"), [("meter", 1e-3), ("micron", 1e3), ("mm", 1.0), ("unknown", 1.0)])
def test_units_of_the_header_are_honoured(tmp_path, unit, size):
    image = nib.Nifti1Image(np.asarray(marked().dataobj), np.diag([size, size, size, 1]) @ T88)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine, T88, rtol=1e-5)
    np.testing.assert_allclose(volume.history[0]["spacing_mm"], [8, 8, 8], rtol=1e-5)


def test_sizes_below_zero_are_sizes_as_for_nibabel(tmp_path):
    nib.save(marked(), tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[80:84] = np.float32(-8).tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.affine, nib.load(tmp_path / "a.nii").affine)
    assert volume.history[0]["notes"] == ["its voxel sizes are (-8, 8, 8): taken without the signs"]
