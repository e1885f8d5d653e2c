"""The whole way: trees in, npz out; resumed, parallel; and what the loader makes of it."""

import json
import os
import shutil
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
from openpyxl import Workbook

from geovae.data.oasis import load
from geovae.mri import (
    InputProblems,
    Steps,
    discover,
    inspect,
    prepared_volume,
    process,
    read_archive,
    read_manifest,
    read_states,
    read_volume,
)
from geovae.mri.cohort.jobs import load_state
from tests.mri.originals import head, oasis_tree, to_axes, write_pair
from tests.mri.originals import prepare_with as prepare


def arrays(root):
    with np.load(root / "oasis" / "OASIS.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture
def foreign(tmp_path):
    """A second tree, with other header choices, and an xlsx table."""
    lines = oasis_tree(tmp_path / "in", n=6)
    book = Workbook()
    for line in lines:
        book.active.append(line)
    book.save(tmp_path / "in" / "oasis_cross-sectional.xlsx")
    return tmp_path / "in", {"spacing": 8.0, "shape": (22, 26, 22), "workers": 1, "progress": False}


def test_the_cohort_becomes_an_npz_with_everything_in_it(cohort, tmp_path, small):
    source, truths = cohort
    report = prepare(source, tmp_path, **small)
    first = [t for t in truths if t.visit == 1]
    assert report["counts"]["used"] == len(first) == 8
    assert report["counts"]["slices"] == 8
    assert report["problems"] == []
    assert json.loads((tmp_path / "oasis" / "prepare.json").read_text()) == report
    found = arrays(tmp_path)
    assert (found["x_train"].min(axis=(1, 2, 3)) == 0).all()
    assert (found["x_train"].max(axis=(1, 2, 3)) == 255).all()
    assert found["x_train"].shape == (8, 52, 44, 1)
    assert found["x_train"].dtype == np.uint8
    assert found["ids"].tolist() == [t.id for t in first]
    assert found["subjects"].tolist() == [t.subject for t in first]
    np.testing.assert_array_equal(found["cdr"], np.array([t.cdr for t in first], np.float32))
    np.testing.assert_array_equal(found["age"], [t.age for t in first])
    assert found["sex"].tolist() == [t.sex for t in first]
    expected = [-1 if np.isnan(t.cdr) else {0: 0, 0.5: 1, 1: 2, 2: 3}[t.cdr] for t in first]
    assert found["y_train"].tolist() == expected
    assert found["affines"].shape == (8, 4, 4)
    settings = json.loads(str(found["settings"]))
    assert settings["view"] == "radiological"  # as the published file
    numbers = json.loads(str(found["volumes"]))[first[0].id]
    assert [step["step"] for step in numbers["history"]] == ["read", "canonical", "normalise", "crop"]
    manifest = (tmp_path / "oasis" / "manifest.csv").read_text().splitlines()
    assert len(manifest) == 9
    assert (tmp_path / "oasis" / "qc_table.csv").read_text().count("OAS1_") == 8


def test_equal_input_gives_equal_bytes_with_two_processes(cohort, tmp_path, small):
    one = prepare(cohort[0], tmp_path / "one", **small)
    two = prepare(cohort[0], tmp_path / "two", **{**small, "workers": 2})
    assert one["input_hash"] == two["input_hash"]
    same = [(tmp_path / part / "oasis" / "OASIS.npz").read_bytes() for part in ("one", "two")]
    assert same[0] == same[1]


def test_the_pictures_are_planes_of_the_volumes(cohort, tmp_path, small):
    prepare(cohort[0], tmp_path, **small, at=(-13.0, 22.0), unit="mm", quantisation="volume")
    found = arrays(tmp_path)
    assert found["slice_mm"].tolist() == [-13.5, 22.5] * 8
    assert found["ids"][:2].tolist() == ["OAS1_0001_MR1"] * 2
    session = discover(cohort[0])[0][0]
    stored = np.asarray(nib.AnalyzeImage.from_filename(session.path).dataobj)[..., 0].astype(float)
    inside = stored[stored > 0]
    low, high = inside.min(), np.percentile(inside, 99.5)
    k = round((22.5 + 73.5) / 4)
    expected = np.rint(255 * np.clip((stored[:, :, k] - low) / (high - low), 0, 1))
    np.testing.assert_allclose(found["x_train"][1, ..., 0], np.rot90(expected), atol=1)


def test_a_second_tree_written_by_others(foreign, tmp_path):
    source, options = foreign
    report = prepare(source, tmp_path / "out", **options, repeats="keep")
    found = arrays(tmp_path / "out")
    assert found["ids"].tolist()[:3] == ["OAS1_0002_MR1", "OAS1_0005_MR1", "OAS1_0005_MR2"]
    assert report["counts"]["subjects"] == 6
    left, right = found["x_train"][:, :, :11, 0], found["x_train"][:, :, 11:, 0]
    assert (right.mean(axis=(1, 2)) > left.mean(axis=(1, 2)) + 5).all()  # the patient's left was made brighter
    np.testing.assert_allclose(found["affines"][0][:3, 3][:2], [-84.5, -119.5])


def test_files_with_the_column_split_of_earlier_versions_are_read(cohort, tmp_path, small):
    prepare(cohort[0], tmp_path, **{**small, "shape": (44, 52, 44)})
    found = arrays(tmp_path)
    np.savez(tmp_path / "oasis" / "OASIS.npz", **found, split=np.full(len(found["ids"]), "train"))
    assert len(load(root=str(tmp_path), val_fraction=0.25).train) == 6
    assert read_archive(tmp_path)["ids"].tolist() == found["ids"].tolist()


def test_the_loader_takes_what_is_written(foreign, tmp_path):
    """At the full 208 x 176, from 8 mm: padding does not care."""
    source, options = foreign
    prepare(source, tmp_path, **{**options, "shape": (176, 208, 22)})
    splits = load(root=str(tmp_path), val_fraction=0.34)
    assert len(splits.train) + len(splits.val) == 6


def test_finished_subjects_are_not_done_again(cohort, tmp_path, small):
    first = prepare(cohort[0], tmp_path, **small)
    states = sorted((tmp_path / "oasis" / "subjects").glob("*.npz"))
    before = [path.stat().st_mtime_ns for path in states]
    states[2].unlink()
    states[4].write_bytes(states[4].read_bytes()[:500])  # killed while it was written, by a file system that allows it
    content = (tmp_path / "oasis" / "OASIS.npz").read_bytes()
    second = prepare(cohort[0], tmp_path, **small)
    assert second["counts"]["resumed"] == 6
    assert first["input_hash"] == second["input_hash"]
    assert (tmp_path / "oasis" / "OASIS.npz").read_bytes() == content
    after = [path.stat().st_mtime_ns for path in states]
    assert [a == b for a, b in zip(before, after, strict=True)] == [i not in (2, 4) for i in range(8)]
    assert prepare(cohort[0], tmp_path, **small, resume=False)["counts"]["resumed"] == 0
    assert prepare(cohort[0], tmp_path, **small, view="neurological")["counts"]["resumed"] == 0
    assert not list(tmp_path.rglob("*.partial*"))


def test_a_kill_loses_at_most_the_volume_in_work(cohort, tmp_path, small):
    code = f"from tests.mri.originals import prepare_with as p; p({str(cohort[0])!r}, {str(tmp_path)!r}, **{small!r})"
    states = tmp_path / "oasis" / "subjects"
    run = subprocess.Popen([sys.executable, "-c", code])
    while run.poll() is None and not list(states.glob("OAS1_*.npz")):
        time.sleep(0.005)
    run.kill()
    run.wait()
    finished = len(list(states.glob("OAS1_*.npz")))
    assert finished >= 1
    report = prepare(cohort[0], tmp_path, **small)
    assert report["counts"]["resumed"] == finished
    prepare(cohort[0], tmp_path / "other", **small)
    same = [(root / "oasis" / "OASIS.npz").read_bytes() for root in (tmp_path, tmp_path / "other")]
    assert same[0] == same[1]


def test_a_script_without_a_main_guard_prepares_in_several_processes(cohort, tmp_path):
    """Workers must not run the caller's script again, nor wait for its imports."""
    script = tmp_path / "script.py"
    options = "steps=Steps(spacing=4.0, shape=(44, 52, 44)), execution=Execution(workers=2, progress=False)"
    script.write_text(
        "from geovae.mri import Execution, Steps, prepare\n"
        "print('once')\n"
        f"prepare({str(cohort[0])!r}, {str(tmp_path)!r}, {options})\n"
        "print(__file__, __spec__)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["once", f"{script} None"]
    assert len(arrays(tmp_path)["ids"]) == 8


def test_a_prepared_volume_comes_back_from_its_file(cohort, tmp_path, small):
    prepare(cohort[0], tmp_path, **small, at=(0.5,), quantisation="volume", arrays="npy")
    volume = prepared_volume(tmp_path, "OAS1_0003_MR1")
    kept = np.load(tmp_path / "oasis" / "volumes" / "OAS1_0003_MR1.npy")
    np.testing.assert_array_equal(np.rint(volume.data * 255), kept)
    with pytest.raises(ValueError, match=r"no session 'OAS1_0008_MR1' in .*manifest.csv`: it holds OAS1_0001_MR1, "):
        prepared_volume(tmp_path, "OAS1_0008_MR1")
    with pytest.raises(FileNotFoundError, match=r"no .*manifest.csv`: call geovae.mri.prepare first"):
        prepared_volume(tmp_path / "elsewhere", "OAS1_0003_MR1")


def test_masks_from_files_and_their_mismatch(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    data = head()
    for name in "ab":
        folder = source / f"sub-{name}" / "anat"
        folder.mkdir(parents=True)
        nib.save(nib.Nifti1Image(data + 50, np.eye(4)), folder / f"sub-{name}_T1w.nii.gz")
        nib.save(nib.Nifti1Image((data > 0).astype(np.uint8), np.eye(4)), folder / f"sub-{name}_mask.nii.gz")
    options = {"table": None, "workers": 1, "progress": False, "mask": "file", "mask_pattern": "{subject}_mask.nii.gz"}
    report = prepare(source, tmp_path, **options, shape=(20, 24, 22), stripped=True, percentiles=(1, 99))
    assert report["counts"]["used"] == 2
    assert (arrays(tmp_path)["x_train"][:, 0] == 0).all()
    nib.save(nib.Nifti1Image((data > 0).astype(np.uint8)[1:], np.eye(4)), folder / "sub-b_mask.nii.gz")
    with pytest.raises(InputProblems, match=r"sub-b_MR1: the mask has shape \(19, 24, 22\), the volume \(20, 24, 22\)"):
        prepare(source, tmp_path, **options, shape=(20, 24, 22))


def test_volumes_with_skull_take_the_mask_of_their_masked_sibling(tmp_path):
    place = tmp_path / "in" / "disc1" / "OAS1_0001_MR1"
    masked = to_axes(head((22, 26, 22)), "LAS")
    skull = masked + np.where(masked == 0, 300, 0).astype(np.int16)
    name = "OAS1_0001_MR1_mpr_n4_anon_111_t88"
    for kind, data in (("masked_gfc", masked), ("gfc", skull)):
        write_pair(place / f"{name}_{kind}", data, pixdim=(8.0, 8.0, 8.0))
    shutil.copytree(place, place.with_name("OAS1_0002_MR1"))
    for path in place.with_name("OAS1_0002_MR1").iterdir():
        path.rename(path.with_name(path.name.replace("0001", "0002")))
    options = {"table": None, "workers": 1, "progress": False, "spacing": 8.0, "shape": (22, 26, 22)}
    prepare(tmp_path / "in", tmp_path, **options, product="t88", stripped=True)
    with_skull = arrays(tmp_path)["x_train"]
    prepare(tmp_path / "in", tmp_path, **options)
    np.testing.assert_array_equal(with_skull, arrays(tmp_path)["x_train"])
    next(place.glob("*masked_gfc.img")).unlink()
    with pytest.raises(InputProblems, match=r"OAS1_0001_MR1: no mask like .*t88_masked_gfc"):
        prepare(tmp_path / "in", tmp_path, **options, product="t88")


def test_volumes_as_arrays_and_as_nifti(cohort, tmp_path, small):
    prepare(cohort[0], tmp_path, **small, arrays="npy", arrays_spacing=8.0)
    array = np.load(tmp_path / "oasis" / "volumes" / "OAS1_0001_MR1.npy")
    assert array.shape == (22, 26, 22)
    assert array.dtype == np.uint8
    affine = read_archive(tmp_path)["volumes"]["OAS1_0001_MR1"]["array_affine"]
    np.testing.assert_array_equal(affine, [[8, 0, 0, -84.5], [0, 8, 0, -119.5], [0, 0, 8, -71.5], [0, 0, 0, 1]])
    prepare(cohort[0], tmp_path, **small, arrays="nii.gz")
    path = min((tmp_path / "oasis" / "derivatives").rglob("sub-OAS10001*.nii.gz"))
    image = nib.load(path)
    done = process(discover(cohort[0])[0][0], Steps(spacing=4.0, shape=(44, 52, 44)))
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), done.volume.data)
    np.testing.assert_array_equal(image.affine, done.volume.affine)
    np.testing.assert_array_equal(read_volume(path).data, done.volume.data)


def test_a_turned_volume_is_suspect_in_the_table(cohort, tmp_path, small):
    shutil.copytree(cohort[0], tmp_path / "in")
    path = sorted((tmp_path / "in").rglob("*.img"))[3]
    data = np.fromfile(path, ">i2").reshape((44, 52, 44), order="F")
    path.write_bytes(data[:, ::-1].tobytes(order="F"))
    prepare(tmp_path / "in", tmp_path, **small)
    lines = (tmp_path / "oasis" / "qc_table.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines if "mirrored_front_back" in line] == [path.name[:13]]


def test_states_hold_what_figures_need(cohort, tmp_path, small):
    prepare(cohort[0], tmp_path, **small)
    path = tmp_path / "oasis" / "subjects" / "OAS1_0001_MR1.npz"
    state = load_state(path)
    assert state["plane_axial"].shape == (44, 52)
    assert state["plane_sagittal"].shape == (52, 44)
    assert state["before"].sum() == 11 * 13 * 11
    (same,) = read_states(tmp_path, ["OAS1_0001_MR1"])
    assert same["before"].shape == same["after"].shape == (128,)
    done = process(discover(cohort[0])[0][0], Steps(spacing=4.0, shape=(44, 52, 44)))
    np.testing.assert_array_equal(same["plane_coronal"], np.rint(done.volume.data[:, 26] * 255))
    np.testing.assert_array_equal(same["grid_affine"], done.volume.affine)
    with pytest.raises(FileNotFoundError, match="are missing: call geovae.mri.prepare again"):
        read_states(tmp_path, ["OAS1_0001_MR1", "OAS1_0008_MR1"])
    with pytest.raises(FileNotFoundError, match="call geovae.mri.prepare first"):
        read_archive(tmp_path / "none")
    assert load_state(path, "another key") is None
    assert load_state(tmp_path / "none.npz") is None


def test_inspection_shows_found_beside_expected(cohort, foreign):
    text = inspect(cohort[0])
    for line in (
        "visits: MR1 8, MR2 1   [OASIS-1: MR1 416, MR2 20]",
        "analyze int16 big-endian 9",
        "origin bytes: b'          ' 9",
        "stored 4-D 9",
        "axes LAS by table",
        "none in what was looked at",
    ):
        assert line in text
    other = inspect(foreign[0])
    assert "analyze float32 little-endian 7" in other
    assert "b'1234567890' 7" in other


def test_another_spelling_of_the_source_is_the_same_source(cohort, tmp_path, small):
    prepare(cohort[0], tmp_path, **small)
    relative = os.path.relpath(cohort[0])
    assert prepare(relative, tmp_path, **small)["counts"]["resumed"] == 8


def test_ages_grades_and_diagnoses_of_bids_are_kept_as_the_tables_say_them(tmp_path):
    source = tmp_path / "in"
    for subject, cdr in (("sub-1", "0.5"), ("sub-2", "n/a")):
        (source / subject / "anat").mkdir(parents=True)
        nib.save(nib.Nifti1Image(head(), np.eye(4)), source / subject / "anat" / f"{subject}_T1w.nii.gz")
        (source / subject / f"{subject}_sessions.tsv").write_text(f"session_id\tcdr_global\nses-M000\t{cdr}\n")
    (source / "participants.tsv").write_text("participant_id\tage_bl\tdiagnosis_bl\nsub-1\t89+\tAD\nsub-2\tn/a\tCN\n")
    report = prepare(source, tmp_path, shape=(20, 24, 22), workers=1, progress=False)
    assert report["problems"] == []
    assert [w for w in report["warnings"] if "no column" in w] == [
        "participants.tsv: no column m/f: left unknown; "
        "it has participant_id, age_bl, diagnosis_bl, session_id, cdr_global"
    ]
    found = arrays(tmp_path)
    np.testing.assert_array_equal(found["age"], np.float32([89, np.nan]))
    assert found["age_at_least"].tolist() == [True, False]
    assert found["diagnosis"].tolist() == ["AD", "CN"]
    assert found["y_train"].tolist() == [1, -1]  # the scans name no session, so the only visit is theirs
    assert [(row["age"], row["diagnosis"]) for row in read_manifest(tmp_path)] == [("89+", "AD"), ("", "CN")]
