"""Finding the volumes of a folder."""

import pytest

from geovae.mri import discover
from geovae.mri.cohort.discover import Wanted
from geovae.mri.cohort.masks import with_masks
from geovae.mri.cohort.table import find_table


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def oasis(id, n=4, end=".img"):
    return f"disc1/{id}/PROCESSED/MPRAGE/T88_111/{id}_mpr_n{n}_anon_111_t88_masked_gfc{end}"


def test_every_number_of_repeats_is_found_and_pairs_count_once(tmp_path):
    names = [oasis(f"OAS1_000{i}_MR1", n, end) for i, n in ((1, 3), (2, 4), (3, 5), (4, 6)) for end in (".img", ".hdr")]
    touch(tmp_path, *names, oasis("OAS1_0002_MR2"), "disc1/OAS1_0001_MR1/OAS1_0001_MR1.txt")
    sessions, problems = discover(tmp_path)
    assert [s.id for s in sessions] == [f"OAS1_000{i}_MR1" for i in (1, 2)] + ["OAS1_0002_MR2"] + [
        f"OAS1_000{i}_MR1" for i in (3, 4)
    ]
    assert problems == []
    assert {s.path.suffix for s in sessions} == {".img"}
    assert sessions[2].subject == "OAS1_0002"
    assert sessions[2].visit == 2


def test_several_files_of_a_session_are_a_problem(tmp_path):
    touch(tmp_path, oasis("OAS1_0001_MR1", 3), oasis("OAS1_0001_MR1", 4), oasis("OAS1_0002_MR1"))
    sessions, problems = discover(tmp_path)
    assert [s.id for s in sessions] == ["OAS1_0002_MR1"]
    assert "2 files for one session (OAS1_0001_MR1_mpr_n3" in problems[0].sentence


def test_bids_and_clinica_names(tmp_path):
    touch(
        tmp_path,
        "sub-OASIS10001/ses-M000/anat/sub-OASIS10001_ses-M000_T1w.nii.gz",
        "sub-OASIS10001/ses-M012/t1_linear/sub-OASIS10001_ses-M012_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii",
        "sub-02/anat/sub-02_T2w.nii",
    )
    sessions, _ = discover(tmp_path)
    assert [s.id for s in sessions] == ["sub-02_MR1", "sub-OASIS10001_MR1", "sub-OASIS10001_MR2"]
    assert {s.id.split("_MR")[0] for s in sessions} == {s.subject for s in sessions}


def test_what_was_computed_from_a_bids_data_set_is_not_raw(tmp_path):
    raw = "sub-01/anat/sub-01_T1w.nii.gz"
    computed = "derivatives/fmriprep/sub-01/anat/sub-01_space-MNI152NLin2009cAsym_desc-preproc_T1w.nii.gz"
    touch(tmp_path, raw, computed, f"sourcedata/{raw}", f"code/{raw}")
    sessions, problems = discover(tmp_path)
    assert [s.path for s in sessions] == [tmp_path / raw]
    assert problems == []
    assert [s.path for s in discover(tmp_path / "derivatives" / "fmriprep")[0]] == [tmp_path / computed]


def test_a_flat_folder(tmp_path):
    touch(tmp_path, "anna.nii.gz", "bert.hdr", "bert.img", "carl_MR2.nii", "notes.txt")
    sessions, _ = discover(tmp_path)
    assert [(s.id, s.subject, s.visit) for s in sessions] == [
        ("anna", "anna", 1),
        ("bert", "bert", 1),
        ("carl_MR2", "carl", 2),
    ]


def test_hidden_folders_and_companions_of_macos_are_no_volumes(tmp_path):
    touch(tmp_path, "a.nii.gz", "._a.nii.gz", ".trash/b.nii.gz", "__MACOSX/._c.nii.gz", "__MACOSX/d.nii.gz")
    touch(tmp_path, "participants.tsv", ".old/participants.tsv")
    assert [s.id for s in discover(tmp_path)[0]] == ["a"]
    assert find_table(tmp_path) == tmp_path / "participants.tsv"


def test_linked_volumes_are_found(tmp_path):
    touch(tmp_path / "elsewhere", "OAS/a.nii.gz")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "disc1").symlink_to(tmp_path / "elsewhere")
    assert [s.id for s in discover(tmp_path / "source")[0]] == ["a"]


def test_nothing_found_shows_pattern_and_what_was_seen(tmp_path):
    touch(tmp_path, "readme.txt", "scan.minc")
    with pytest.raises(
        FileNotFoundError, match=r"no volume below .*t88_masked_gfc.img.*2 files were seen: readme.txt, scan.minc"
    ):
        discover(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"is not a folder"):
        discover(tmp_path / "none")
    with pytest.raises(ValueError, match=r"`layout` must be one of auto, oasis1, bids, flat, got 'xnat'"):
        discover(tmp_path, "xnat")
    with pytest.raises(ValueError, match=r"`product` must be one of t88_masked, .*got 't77'"):
        discover(tmp_path, product="t77")


def test_a_product_that_is_not_there_does_not_become_a_flat_folder(tmp_path):
    touch(tmp_path, oasis("OAS1_0001_MR1"))
    with pytest.raises(FileNotFoundError, match=r"product `subj`.*OAS1_0001_MR1_mpr_n4"):
        discover(tmp_path, product="subj")


def test_masks_are_found_or_named(tmp_path):
    touch(tmp_path, "a.nii", "a_mask.nii.gz", "b.nii")
    sessions = discover(tmp_path)[0]
    found, problems = with_masks(sessions, pattern="{id}_mask.nii*")
    assert [s.mask.name for s in found] == ["a_mask.nii.gz"]
    assert "b: no mask like `b_mask.nii*`" in str(problems[0])


@pytest.mark.parametrize("pattern", ["{nope}", "{0}", "{id.__class__}", "{id:>1000000000}", "{", "{id!r}"])
def test_a_pattern_of_masks_reads_no_attributes_and_formats_nothing(pattern, tmp_path):
    touch(tmp_path, "a.nii")
    found, problems = with_masks(discover(tmp_path)[0], pattern=pattern)
    assert found == []
    assert f"a: no mask like `{pattern}`" in str(problems[0])


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "a/../../*"])
def test_a_pattern_of_masks_stays_in_the_folder(pattern, tmp_path):
    touch(tmp_path, "a.nii")
    with pytest.raises(ValueError, match="`mask_pattern` must stay within the folder"):
        with_masks(discover(tmp_path)[0], pattern=pattern)


def ids(folder, **wanted):
    sessions, problems = discover(folder, wanted=Wanted(**wanted))
    return [(s.id, s.path.name) for s in sessions], [p.sentence for p in problems]


def test_entities_of_bids_choose_the_volume(tmp_path):
    for subject in ("sub-01", "sub-02"):
        names = ("run-01_T1w", "run-02_T1w", "acq-tse_T2w", "FLAIR", "task-rest_bold")
        touch(tmp_path, *(f"{subject}/anat/{subject}_{name}.nii.gz" for name in names))
    assert ids(tmp_path) == (
        [],
        ["2 files for one session (run-01_T1w.nii.gz, run-02_T1w.nii.gz): pass run=01 or run=02"] * 2,
    )
    for run in ("1", "01"):
        assert [name for _, name in ids(tmp_path, run=run)[0]] == [f"sub-0{i}_run-01_T1w.nii.gz" for i in (1, 2)]
    assert [name for _, name in ids(tmp_path, suffix="T2w")[0]] == [f"sub-0{i}_acq-tse_T2w.nii.gz" for i in (1, 2)]
    assert ids(tmp_path, suffix="FLAIR", acq="none")[0][0] == ("sub-01_MR1", "sub-01_FLAIR.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"expected sub-01.* with acq=mprage; `suffix`, `space`, .* 10 files"):
        discover(tmp_path, wanted=Wanted(acq="mprage"))
    assert ids(tmp_path, pattern="sub-*_run-01_T1w.nii.gz") == ids(tmp_path, run="1")


def test_spaces_of_derivatives_are_chosen(tmp_path):
    names = ["desc-preproc_T1w", "space-MNI152NLin2009cAsym_res-2_desc-preproc_T1w", "desc-brain_mask", "dseg"]
    touch(tmp_path, *(f"sub-01/anat/sub-01_{name}.nii.gz" for name in names))
    (sentence,) = ids(tmp_path)[1]
    assert sentence.endswith("pass space=none or space=MNI152NLin2009cAsym")
    assert ids(tmp_path, space="none") == ([("sub-01_MR1", "sub-01_desc-preproc_T1w.nii.gz")], [])
    (found,) = ids(tmp_path, space="MNI152NLin2009cAsym")[0]
    assert found[1].startswith("sub-01_space-MNI")


def test_bids_without_the_volume_asked_for_does_not_become_a_flat_folder(tmp_path):
    touch(tmp_path, "sub-01/func/sub-01_task-rest_bold.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"expected sub-01.*_T1w.nii.gz; `suffix`, .* choose another file"):
        discover(tmp_path)


def test_a_bids_data_set_below_the_source_has_derivatives_too(tmp_path):
    touch(tmp_path, "ds1/sub-01/anat/sub-01_T1w.nii.gz", "ds1/derivatives/a/sub-01/anat/sub-01_desc-x_T1w.nii.gz")
    assert ids(tmp_path) == ([("sub-01_MR1", "sub-01_T1w.nii.gz")], [])


def test_equal_names_in_folders_of_subjects(tmp_path):
    """The neurite copy of OASIS-1; the folder names the subject, also where there is only one."""
    names = ("orig", "aligned_norm", "aligned_seg4", "slice_norm")
    touch(tmp_path, *(f"OASIS_OAS1_000{i}_MR1/{name}.nii.gz" for i in (1, 2) for name in names))
    touch(tmp_path, "subjects.txt")
    sentence = ids(tmp_path)[1][0]
    assert "where each folder is a subject, pass pattern='*/aligned_norm.nii.gz'" in sentence
    found = discover(tmp_path, wanted=Wanted(pattern="*/aligned_norm.nii.gz"))[0]
    assert [(s.id, s.subject, s.visit) for s in found] == [
        ("OAS1_0001_MR1", "OAS1_0001", 1),
        ("OAS1_0002_MR1", "OAS1_0002", 1),
    ]
    assert ids(tmp_path / "OASIS_OAS1_0001_MR1", pattern="orig.nii.gz")[0] == [("OAS1_0001_MR1", "orig.nii.gz")]


@pytest.mark.parametrize(
    ("files", "pattern", "expected"),
    [
        (("bert/mri/T1.mgz", "bert/mri/brainmask.mgz", "bert/mri/orig/001.mgz"), "*/mri/T1.mgz", ["bert"]),
        (("a.anat/T1_biascorr.nii.gz", "b.anat/T1_biascorr.nii.gz"), "*.anat/T1_biascorr.nii.gz", ["a.anat", "b.anat"]),
        (("s1/m0/T1.nii", "s1/m12/T1.nii", "s2/m0/T1.nii"), "*/*/T1.nii", ["s1_MR1", "s1_MR2", "s2_MR1"]),
        (("site1/anna_t1.nii", "site2/bert_t1.nii", "site1/anna_t2.nii"), "*_t1.nii", ["anna_t1", "bert_t1"]),
    ],
)
def test_a_pattern_names_files_and_where_the_subject_stands(tmp_path, files, pattern, expected):
    touch(tmp_path, *files)
    assert [id for id, _ in ids(tmp_path, pattern=pattern)[0]] == expected
