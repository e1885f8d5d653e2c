"""What is wrong with input or options: all of it at once, with nothing half written; or left out, or a warning."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from geovae.mri import InputProblems, inspect, read_archive
from tests.mri.originals import head, to_axes, write_pair
from tests.mri.originals import prepare_with as prepare

FILES = ("OASIS.npz", "manifest.csv", "qc_table.csv", "prepare.json")


def spoil(source):
    """Bad volumes and a bad table at once."""
    images = sorted(source.rglob("*.img"))
    images[0].write_bytes(images[0].read_bytes()[:-7])
    images[3].with_suffix(".hdr").unlink()
    write_pair(images[4].with_suffix(""), np.full((44, 52, 44), 9, np.int16), pixdim=(4.0, 4.0, 4.0))
    table = next(source.glob("oasis_*.csv"))
    lines = table.read_text().splitlines()
    table.write_text(
        "\n".join([*lines[:-1], lines[2], "OAS1_0400_MR1,F,R,70,,,,0.3,,,,N/A", "OAS1_0401_MR1" + "," * 11])
    )


def test_all_problems_are_reported_at_once_and_nothing_is_half_written(cohort, tmp_path, small):
    shutil.copytree(cohort[0], tmp_path / "in")
    spoil(tmp_path / "in")
    with pytest.raises(InputProblems, match="7 problems and 1 remark in the input") as caught:
        prepare(tmp_path / "in", tmp_path / "out", **small)
    text = str(caught.value)
    for sentence in (
        "OAS1_0001_MR1: `OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.img` holds",
        "is missing, the partner of",
        "constant: every voxel is 9",
        "OAS1_0400_MR1: CDR must be one of 0, 0.5, 1, 2, 3 or blank, got 0.3",
        "duplicate id",
        "a volume without a row in the table",
        "table: 1 row without a volume (OAS1_0401_MR1)",
    ):
        assert sentence in text
    assert not any((tmp_path / "out" / "oasis" / name).exists() for name in FILES)
    assert "duplicate id" in inspect(tmp_path / "in")


def test_skip_leaves_bad_sessions_out_and_warns(cohort, tmp_path, small):
    shutil.copytree(cohort[0], tmp_path / "in")
    spoil(tmp_path / "in")
    with pytest.warns(UserWarning, match="The sessions named are left out"):
        report = prepare(tmp_path / "in", tmp_path / "out", **small, on_error="skip")
    assert report["counts"]["left_out"] > 0
    assert len(report["problems"]) > 4
    assert "OAS1_0001_MR1" not in read_archive(tmp_path / "out")["ids"]


def test_skip_with_nothing_left_is_an_error(tmp_path):
    image = write_pair(tmp_path / "in" / "a", head())
    image.write_bytes(b"")
    with pytest.raises(InputProblems, match="no sound volume is left"):
        prepare(tmp_path / "in", tmp_path, table=None, on_error="skip", progress=False)


def test_mixed_shapes_are_a_problem_unless_a_shape_is_given(tmp_path):
    for name, shape in (("a", (20, 24, 22)), ("b", (22, 26, 24)), ("c", (20, 24, 22))):
        (tmp_path / "in").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(head(shape), np.eye(4)), tmp_path / "in" / f"{name}.nii")
    options = {"table": None, "workers": 1, "progress": False}
    with pytest.raises(InputProblems, match=r"the images have mixed shapes .* pass `shape`"):
        prepare(tmp_path / "in", tmp_path, **options, shape=None)
    with pytest.warns(UserWarning, match="mixed shapes"):
        report = prepare(tmp_path / "in", tmp_path, **options, shape=None, on_error="skip")
    assert report["counts"]["used"] == 2
    assert prepare(tmp_path / "in", tmp_path, **options, shape=(20, 20, 20))["counts"]["used"] == 3


def test_an_oblique_volume_is_taken_with_a_warning(tmp_path):
    affine = np.eye(4)
    c, s = np.cos(0.2), np.sin(0.2)
    affine[:2, :2] = [[c, -s], [s, c]]
    (tmp_path / "in").mkdir()
    for name in "ab":
        nib.save(nib.Nifti1Image(head(), affine), tmp_path / "in" / f"{name}.nii.gz")
    report = prepare(tmp_path / "in", tmp_path, table=None, shape=(24, 24, 24), progress=False, workers=1)
    assert [w for w in report["warnings"] if w.startswith("a: the grid is oblique by 11.5 degrees")]
    assert read_archive(tmp_path)["volumes"]["a"]["obliquity_degrees"] == pytest.approx(11.46)
    assert report["counts"]["label_-1"] == 2


def test_analyze_without_a_table_of_affines_is_warned_of(tmp_path):
    for name in "ab":
        write_pair(tmp_path / "in" / name, head())
    report = prepare(tmp_path / "in", tmp_path, table=None, shape=(20, 24, 22), progress=False, workers=1)
    assert "a: Analyze files do not store left and right: LAS is assumed" in report["warnings"][0]


def test_bad_options_have_their_sentence(cohort, tmp_path, small):
    for options, sentence in (
        ({"on_error": "ask"}, "`on_error` must be one of fail, skip, got 'ask'"),
        ({"arrays": "mat"}, "`arrays` must be one of none, npy, nii.gz, got 'mat'"),
        ({"workers": 0}, "`workers` must be a whole number of at least 1, got 0"),
        ({"arrays_spacing": -2}, "`arrays_spacing` must be positive and finite, got -2"),
        ({"repeats": "all"}, "`repeats` must be one of drop, keep, fail, got 'all'"),
        ({"axis": "top"}, "`axis` must be one of axial, coronal, sagittal, got 'top'"),
        ({"mask": "bet"}, "`mask` must be one of auto, nonzero, file, background, otsu, none, got 'bet'"),
        ({"percentiles": (9, 9)}, "`percentiles` must be 0 <= low < high <= 100, got 9 and 9"),
        ({"shape": (9, 9)}, r"`shape` must be three numbers above 1 \(x, y, z\), got \(9, 9\)"),
        ({"spacing": 0}, "`spacing` must be positive and finite, got 0"),
        ({"at": ()}, r"`at` must name at least one position and none twice, got \[\]"),
    ):
        with pytest.raises(ValueError, match=sentence):
            prepare(cohort[0], tmp_path, **{**small, **options})


def test_a_slice_outside_or_empty_is_reported_for_its_session(cohort, tmp_path, small):
    with pytest.raises(InputProblems, match=r"OAS1_0001_MR1, .* and 3 more: the axial slice at 200 \(mm\) is outside"):
        prepare(cohort[0], tmp_path, **small, at=(200,), unit="mm")
    with pytest.raises(InputProblems, match=r"OAS1_0001_MR1, .* and 3 more: the slice is empty: every value is 0"):
        prepare(cohort[0], tmp_path, **small, at=(43,), unit="index")


def test_volumes_whose_axes_the_table_would_get_wrong_are_refused(tmp_path):
    """A T88 volume stored at another size is no T88_111 volume: the table must not be guessed at."""
    place = tmp_path / "in" / "OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc"
    write_pair(place, to_axes(head(), "LAS"))
    with pytest.raises(InputProblems, match=r"is not that of t88_masked, \(176, 208, 176\)"):
        prepare(tmp_path / "in", tmp_path, table=None, progress=False, workers=1)
    assert not (tmp_path / "oasis" / "OASIS.npz").exists()
