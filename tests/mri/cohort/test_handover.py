"""Outputs of fMRIPrep, Clinica, FSL, FreeSurfer and ANTs, in their own layouts, from files to pictures."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from geovae.mri import Selection, inspect, read_manifest
from tests.mri.originals import head
from tests.mri.originals import prepare_with as prepare

SHAPE = (22, 26, 22)
MNI = "space-MNI152NLin2009cAsym_res-2"
# what each program writes for one subject (volume, mask, other files), and the options that the manual names for it
LAYOUTS = {
    "fmriprep in MNI": (
        "{0}/anat/{0}_" + MNI + "_desc-preproc_T1w.nii.gz",
        "{0}/anat/{0}_" + MNI + "_desc-brain_mask.nii.gz",
        ["{0}/anat/{0}_desc-preproc_T1w.nii.gz", "{0}/anat/{0}_" + MNI + "_dseg.nii.gz"],
        {"space": "MNI152NLin2009cAsym"},
    ),
    "fmriprep": (
        "{0}/anat/{0}_desc-preproc_T1w.nii.gz",
        "{0}/anat/{0}_desc-brain_mask.nii.gz",
        ["{0}/anat/{0}_" + MNI + "_desc-preproc_T1w.nii.gz", "{0}/anat/{0}_label-GM_probseg.nii.gz"],
        {"space": "none"},
    ),
    "bids with masks of fmriprep": (
        "{0}/anat/{0}_T1w.nii.gz",
        "derivatives/fmriprep/{0}/anat/{0}_desc-brain_mask.nii.gz",
        ["derivatives/fmriprep/{0}/anat/{0}_desc-preproc_T1w.nii.gz"],
        {},
    ),
    "clinica": (
        "{0}/ses-M000/t1_linear/{0}_ses-M000_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz",
        "",
        ["{0}/ses-M000/t1_linear/{0}_ses-M000_space-MNI152NLin2009cSym_res-1x1x1_T1w.nii.gz"],
        {"space": "MNI152NLin2009cSym", "desc": "Crop"},
    ),
    "fsl_anat": (
        "{0}.anat/T1_biascorr.nii.gz",
        "{0}.anat/T1_biascorr_brain_mask.nii.gz",
        ["{0}.anat/T1.nii.gz", "{0}.anat/T1_biascorr_brain.nii.gz", "{0}.anat/T1_to_MNI_lin.nii.gz"],
        {"pattern": "*.anat/T1_biascorr.nii.gz"},
    ),
    "freesurfer": (
        "{0}/mri/T1.mgz",
        "{0}/mri/brainmask.mgz",
        ["{0}/mri/orig.mgz", "{0}/mri/aseg.mgz", "{0}/mri/orig/001.mgz"],
        {"pattern": "*/mri/T1.mgz"},
    ),
    "ants": (
        "{0}_BrainSegmentation0N4.nii.gz",
        "{0}_BrainExtractionMask.nii.gz",
        ["{0}_BrainSegmentation.nii.gz", "{0}_BrainNormalizedToTemplate.nii.gz"],
        {"pattern": "*_BrainSegmentation0N4.nii.gz"},
    ),
}


def save(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-8.0, 8, 8, 1])
    image = nib.MGHImage(data, affine) if path.suffix == ".mgz" else nib.Nifti1Image(data, affine)
    nib.save(image, path)


@pytest.mark.parametrize("name", LAYOUTS)
def test_outputs_of_other_programs_are_prepared_with_their_masks(tmp_path, name):
    volume, mask, others, options = LAYOUTS[name]
    data = head(SHAPE)
    brain = np.zeros(SHAPE, bool)
    brain[6:16, 7:19, 6:16] = True
    for subject in ("sub-1", "sub-2"):
        save(tmp_path / "in" / volume.format(subject), data)
        if mask:
            save(tmp_path / "in" / mask.format(subject), brain.astype(np.uint8))
        for other in others:
            save(tmp_path / "in" / other.format(subject), data)
    steps = {"spacing": None, "shape": None, "table": None, "workers": 1, "progress": False}
    report = prepare(tmp_path / "in", tmp_path, **steps, **options)
    assert report["problems"] == []
    shown = inspect(tmp_path / "in", selection=Selection(table=None, **options))
    assert f"ml by {Path(mask.format('sub-1')).name if mask else 'otsu'}, centre" in shown
    rows = read_manifest(tmp_path)
    assert [row["subject"].removesuffix(".anat").partition("_")[0] for row in rows] == ["sub-1", "sub-2"]
    assert [row["mask_rule"] for row in rows] == ["file" if mask else "otsu"] * 2
    if mask:
        found = nib.load(tmp_path / "in" / mask.format("sub-1"))
        millilitres = np.count_nonzero(found.get_fdata()) * abs(np.linalg.det(found.affine[:3, :3])) / 1000
        assert float(rows[0]["brain_ml"]) == pytest.approx(millilitres)
