"""Brain masks are found by the names that other programs give them."""

import pytest

from geovae.mri import discover
from geovae.mri.cohort.discover import Wanted
from geovae.mri.cohort.masks import with_masks
from tests.mri.cohort.test_discover import touch

FMRIPREP = "sub-01/ses-1/anat/sub-01_ses-1"
MNI = "space-MNI152NLin2009cAsym_res-2"


@pytest.mark.parametrize(
    ("volume", "mask", "others", "wanted"),
    [
        (f"{FMRIPREP}_desc-preproc_T1w.nii.gz", f"{FMRIPREP}_desc-brain_mask.nii.gz", [], {"space": "none"}),
        (
            f"{FMRIPREP}_{MNI}_desc-preproc_T1w.nii.gz",
            f"{FMRIPREP}_{MNI}_desc-brain_mask.nii.gz",
            [f"{FMRIPREP}_desc-preproc_T1w.nii.gz", f"{FMRIPREP}_desc-brain_mask.nii.gz"],
            {"space": "MNI152NLin2009cAsym"},
        ),
        (
            "sub-01/anat/sub-01_T1w.nii.gz",
            "derivatives/fmriprep/sub-01/anat/sub-01_desc-brain_mask.nii.gz",
            ["derivatives/fmriprep/sub-01/anat/sub-01_space-MNI152NLin6Asym_desc-brain_mask.nii.gz"],
            {},
        ),
        ("bert/mri/T1.mgz", "bert/mri/brainmask.mgz", ["bert/mri/wm.mgz"], {"pattern": "*/mri/T1.mgz"}),
        ("bert/mri/orig_nu.mgz", "bert/mri/mask.mgz", [], {"pattern": "*/mri/orig_nu.mgz"}),
        (
            "a.anat/T1_biascorr.nii.gz",
            "a.anat/T1_biascorr_brain_mask.nii.gz",
            ["a.anat/T1_biascorr_brain.nii.gz"],
            {"pattern": "*.anat/T1_biascorr.nii.gz"},
        ),
        (
            "a.anat/T1_biascorr_brain.nii.gz",
            "a.anat/T1_biascorr_brain_mask.nii.gz",
            ["a.anat/T1_biascorr.nii.gz"],
            {"pattern": "*.anat/T1_biascorr_brain.nii.gz"},
        ),
        ("T1.nii.gz", "T1_bet_mask.nii.gz", [], {}),
        ("T1.hdr", "T1_mask.img", ["T1.img", "T1_mask.hdr"], {}),
        (
            "ants/s1_BrainSegmentation0N4.nii.gz",
            "ants/s1_BrainExtractionMask.nii.gz",
            ["ants/s2_BrainExtractionMask.nii.gz", "ants/s1_BrainSegmentation.nii.gz"],
            {"pattern": "s1_*0N4.nii.gz"},
        ),
        ("images/s1.nii.gz", "images/masks/s1.nii.gz", [], {"pattern": "images/*.nii.gz"}),
        ("images/s1.nii.gz", "masks/s1_mask.nii.gz", [], {"pattern": "images/*.nii.gz"}),
        ("images/s1.nii.gz", "masks/s1.nii.gz", [], {"pattern": "images/*.nii.gz"}),
    ],
)
def test_masks_of_other_programs(tmp_path, volume, mask, others, wanted):
    touch(tmp_path, volume, mask, *others)
    sessions = discover(tmp_path, wanted=Wanted(**wanted))[0]
    assert len(sessions) == 1
    found, problems = with_masks(sessions)
    assert problems == []
    assert found[0].mask == tmp_path / mask


def test_a_folder_of_masks_is_an_option(tmp_path):
    touch(tmp_path, *(f"in/{name}/norm.nii.gz" for name in "ab"), *(f"bet/{name}/norm_mask.nii.gz" for name in "ab"))
    touch(tmp_path, "flat/c.nii.gz", "bet/c.nii.gz")
    sessions = discover(tmp_path / "in", wanted=Wanted(pattern="*/norm.nii.gz"))[0]
    found, problems = with_masks(sessions, folder=tmp_path / "bet")
    assert [(s.id, s.mask.parent.name) for s in found] == [("a", "a"), ("b", "b")]
    assert problems == []
    assert with_masks(discover(tmp_path / "flat")[0], folder=tmp_path / "bet")[0][0].mask == tmp_path / "bet/c.nii.gz"
    with pytest.raises(FileNotFoundError, match="`mask_folder` must be a folder with brain masks, got .*none"):
        with_masks(sessions, folder=tmp_path / "none")


def test_masks_of_two_pipelines_are_a_choice(tmp_path):
    volume = "sub-01/anat/sub-01_T1w.nii.gz"
    touch(tmp_path, volume, *(f"derivatives/{p}/sub-01/anat/sub-01_desc-brain_mask.nii.gz" for p in ("a", "b")))
    sessions = discover(tmp_path)[0]
    found, problems = with_masks(sessions, needed=False)
    assert found == []
    assert "2 masks (" in problems[0].sentence
    assert "pass `mask_folder`, the folder of one of them" in problems[0].sentence
    chosen = with_masks(sessions, folder=tmp_path / "derivatives" / "b")[0]
    assert chosen[0].mask.parts[-4] == "b"


def test_a_missing_mask_is_a_problem_where_one_is_needed_and_else_a_remark(tmp_path):
    touch(tmp_path, "a.nii", "a_mask.nii", "b.nii")
    sessions = discover(tmp_path)[0]
    assert [s.id for s in sessions] == ["a", "b"]
    found, problems = with_masks(sessions)
    assert [s.id for s in found] == ["a"]
    assert "no brain mask beside the volume or in derivatives/, such as b_mask, b_brain_mask" in problems[0].sentence
    found, problems = with_masks(sessions, needed=False)
    assert [(s.id, s.mask is not None) for s in found] == [("a", True), ("b", False)]
    assert [(p.where, p.warning) for p in problems] == [("b", True)]
    assert with_masks(sessions[1:], needed=False)[1] == []
