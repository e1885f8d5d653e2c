"""The written volumes are a data set of BIDS derivatives: pybids (where installed), nibabel and nilearn find them."""

import json

import nibabel as nib
import numpy as np
import pytest

from geovae.mri import InputProblems, Session, Volume
from geovae.mri.cohort.derivatives import derivative_path, label_problems, write_derivative, write_description
from tests.mri.originals import head
from tests.mri.originals import prepare_with as prepare

AFFINE = np.array([[2.0, 0, 0, -20], [0, 2, 0, -30], [0, 0, 2, -10], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def prepared(cohort, tmp_path_factory):
    """The derivatives of eight subjects."""
    root = tmp_path_factory.mktemp("bids")
    prepare(cohort[0], root, spacing=4.0, shape=(44, 52, 44), workers=1, progress=False, arrays="nii.gz")
    return root / "oasis" / "derivatives"


def test_every_volume_has_a_name_and_a_sidecar_of_bids(prepared):
    described = json.loads((prepared / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "geovae"
    volumes = sorted(prepared.rglob("*.nii.gz"))
    assert len(volumes) == 8
    name = "sub-OAS10001/ses-1/anat/sub-OAS10001_ses-1_space-Talairach_desc-preproc_T1w"
    assert volumes[0] == prepared / f"{name}.nii.gz"
    sidecar = json.loads((prepared / f"{name}.json").read_text())
    assert sidecar["SkullStripped"] is True
    assert sidecar["Session"] == "OAS1_0001_MR1"
    assert [step["step"] for step in sidecar["Steps"]][:2] == ["read", "canonical"]


def test_nibabel_and_nilearn_read_them(prepared):
    image_module = pytest.importorskip("nilearn.image")
    path = min(prepared.rglob("*.nii.gz"))
    image = nib.load(path)
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert (int(image.header["sform_code"]), image.header.get_xyzt_units()[0]) == (3, "mm")
    loaded = image_module.load_img(str(path))
    np.testing.assert_array_equal(loaded.get_fdata(), image.get_fdata())


def test_pybids_finds_them_by_their_entities(prepared):
    bids = pytest.importorskip("bids", reason="pybids is not among the requirements")
    layout = bids.BIDSLayout(prepared, validate=False, is_derivative=True)
    found = layout.get(subject="OAS10001", desc="preproc", suffix="T1w", extension=".nii.gz")
    assert [f.entities["space"] for f in found] == ["Talairach"]
    assert found[0].get_metadata()["SkullStripped"] is True
    assert len(layout.get_subjects()) == 8


def test_what_is_in_no_atlas_has_no_label_of_one(tmp_path):
    path = derivative_path(tmp_path, "sub-a_1", space="aligned", what="generated")
    assert path == tmp_path / "sub-a1" / "anat" / "sub-a1_desc-generated_T1w.nii.gz"
    volume = Volume(head().astype(np.float32), AFFINE)
    write_derivative(volume, path, {"Seed": 3}, space="aligned")
    write_description(tmp_path, "Drawn", "a test")
    image = nib.load(path)
    np.testing.assert_array_equal(image.get_fdata(), volume.data)
    np.testing.assert_array_equal(image.affine, AFFINE)
    sidecar = json.loads(path.with_name("sub-a1_desc-generated_T1w.json").read_text())
    assert sidecar == {"SpatialReference": "orig", "Seed": 3}


def test_subjects_that_bids_cannot_tell_apart_are_a_problem(tmp_path):
    sessions = [Session(name, name, 1, tmp_path, "flat") for name in ("a_1", "a-1", "b", "é")]
    found = {problem.where: problem.sentence for problem in label_problems(sessions)}
    assert found.keys() == {"a_1", "a-1", "é"}
    assert "a-1, a_1 would all be `sub-a1` in BIDS" in found["a_1"]
    assert "no letter or digit" in found["é"]
    for name in ("a_1", "a-1"):
        nib.save(nib.Nifti1Image(head(), AFFINE), tmp_path / f"{name}.nii")
    options = {"table": None, "workers": 1, "progress": False, "spacing": None, "shape": None}
    with pytest.raises(InputProblems, match="would all be `sub-a1` in BIDS"):
        prepare(tmp_path, tmp_path / "out", **options, arrays="nii.gz")
