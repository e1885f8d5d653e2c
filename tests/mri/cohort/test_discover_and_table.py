"""Finding volumes and joining tables."""

import csv
import math

import pytest

from geovae.mri import discover
from geovae.mri.cohort.discover import with_masks
from geovae.mri.cohort.table import Row, find_table, join, read_table, without_table

HEADER = "ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay\n"


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
    touch(tmp_path, "readme.txt", "scan.mgz")
    with pytest.raises(
        FileNotFoundError, match=r"no volume below .*t88_masked_gfc.img.*2 files were seen: readme.txt, scan.mgz"
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
    sessions = [s for s in discover(tmp_path)[0] if s.id in "ab"]
    found, problems = with_masks(sessions, "{id}_mask.nii*")
    assert [s.mask.name for s in found] == ["a_mask.nii.gz"]
    assert "b: no mask like `b_mask.nii*`" in str(problems[0])


@pytest.mark.parametrize("pattern", ["{nope}", "{0}", "{id.__class__}", "{id:>1000000000}", "{", "{id!r}"])
def test_a_pattern_of_masks_reads_no_attributes_and_formats_nothing(pattern, tmp_path):
    touch(tmp_path, "a.nii")
    found, problems = with_masks(discover(tmp_path)[0], pattern)
    assert found == []
    assert f"a: no mask like `{pattern}`" in str(problems[0])


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "a/../../*"])
def test_a_pattern_of_masks_stays_in_the_folder(pattern, tmp_path):
    touch(tmp_path, "a.nii")
    with pytest.raises(ValueError, match="`mask_pattern` must stay within the folder"):
        with_masks(discover(tmp_path)[0], pattern)


def write(path, text):
    path.write_text(HEADER + text)
    return path


def test_a_table_of_oasis_1(tmp_path):
    path = write(
        tmp_path / "t.csv",
        "OAS1_0001_MR1,F,R,74,2,3,29,0,1344,0.743,1.306,N/A\nOAS1_0002_MR1,M,R,20,,,,,1500,.8,1.1,N/A\n",
    )
    rows, problems = read_table(path)
    assert problems == []
    assert rows[0] == Row("OAS1_0001_MR1", "F", 74.0, 0.0)
    assert rows[0].label == 0
    assert math.isnan(rows[1].cdr)
    assert rows[1].label == -1
    assert [Row("a", cdr=c).label for c in (0.5, 1, 2, 3)] == [1, 2, 3, 4]


def test_the_same_table_as_xlsx_and_tsv(tmp_path):
    from openpyxl import Workbook

    lines = [HEADER.strip().split(","), ["OAS1_0001_MR1", "F", "R", 74, 2, 3, 29, 0.5, 1344, 0.743, 1.306, None]]
    book = Workbook()
    for line in lines:
        book.active.append(line)
    book.save(tmp_path / "t.xlsx")
    with (tmp_path / "t.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(lines)
    expected = [Row("OAS1_0001_MR1", "F", 74.0, 0.5)]
    assert read_table(tmp_path / "t.xlsx") == (expected, [])
    assert read_table(tmp_path / "t.tsv") == (expected, [])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("OAS1_0001_MR1,F,R,74,2,3,29,0.7,1,1,1,N/A", "CDR must be one of 0, 0.5, 1, 2, 3 or blank, got 0.7"),
        ("OAS1_0001_MR1,F,R,old,2,3,29,0,1,1,1,N/A", "Age must be a number or blank, got 'old'"),
        (",F,R,70,2,3,29,0,1,1,1,N/A", "a row without an id"),
        ("OAS1_0001_MR1,F,R,-30,2,3,29,0,1,1,1,N/A", "Age must lie between 0 and 130 years or be blank, got -30"),
        ("OAS1_0001_MR1,F,R,1e309,2,3,29,0,1,1,1,N/A", "Age must lie between 0 and 130 years or be blank, got 1e309"),
        ("OAS1_0001_MR1,F,R,-inf,2,3,29,0,1,1,1,N/A", "Age must lie between 0 and 130 years or be blank, got -inf"),
        ("OAS1_0001_MR1,F,R,70,2,3,29,inf,1,1,1,N/A", "CDR must be one of 0, 0.5, 1, 2, 3 or blank, got inf"),
        ("OAS1_0001_MR1,F,R,7", "its line ends after 4 of 12 cells: a damaged file?"),
    ],
)
def test_bad_rows_have_their_sentence(tmp_path, line, sentence):
    rows, problems = read_table(write(tmp_path / "t.csv", line + "\nOAS1_0009_MR1,F,R,74,2,3,29,1,1,1,1,N/A\n"))
    assert [row.id for row in rows] == ["OAS1_0009_MR1"]
    assert [p.sentence for p in problems] == [sentence]


def test_a_formula_without_a_value_is_named(tmp_path):
    from openpyxl import Workbook

    book = Workbook()
    for line in (["ID", "M/F", "Age", "CDR"], ["a", "F", 70, 0], ["b", "F", 71, "=0.25*2"]):
        book.active.append(line)
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(ValueError, match=r"cell D3 holds a formula, =0.25\*2, without a value: save it by Excel"):
        read_table(tmp_path / "t.xlsx")


def test_a_table_cut_within_a_number_is_refused(tmp_path):
    text = "ID,M/F,Age,CDR\na,F,70,0\nb,F,71,0.5\n"
    path = tmp_path / "t.csv"
    path.write_text(text)
    good = read_table(path)[0]
    for end in range(len("ID,M/F,Age,CDR\n") + 1, len(text)):
        path.write_text(text[:end])
        if text[end - 1] == "\n":
            assert read_table(path)[0] == good[:1]
            continue
        with pytest.raises(ValueError, match="a truncated file"):
            read_table(path)


def test_the_spellings_of_clinica(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tsex\tage_bl\tcdr_global\nsub-OASIS10001\tF\t60\t0.5\n")
    assert read_table(path) == ([Row("sub-OASIS10001", "F", 60.0, 0.5)], [])


def test_bad_tables_have_their_sentence(tmp_path):
    line = "OAS1_0001_MR1,F,R,74,2,3,29,0,1,1,1,N/A\n"
    assert "OAS1_0001_MR1: duplicate id in `t.csv`" in str(read_table(write(tmp_path / "t.csv", line * 2))[1][0])
    (tmp_path / "u.csv").write_text("ID,Age\nOAS1_0001_MR1,70\n")
    assert "missing column m/f, cdr; it has ID, Age" in str(read_table(tmp_path / "u.csv")[1][0])
    left = read_table(tmp_path / "u.csv", required=["id"])[1]
    assert [(str(p), p.warning) for p in left] == [
        ("u.csv: no column m/f, cdr: left unknown, a label is then -1; it has ID, Age", True)
    ]
    (tmp_path / "v.csv").write_text("ID\n")
    with pytest.raises(ValueError, match=r"`v.csv` holds no rows"):
        read_table(tmp_path / "v.csv")
    (tmp_path / "w.xlsx").write_bytes(b"no workbook")
    with pytest.raises(ValueError, match=r"`w.xlsx` cannot be read as a table"):
        read_table(tmp_path / "w.xlsx")
    with pytest.raises(FileNotFoundError, match=r"no table `.*none.csv`"):
        read_table(tmp_path / "none.csv")


def test_the_table_is_found_or_the_patterns_are_shown(tmp_path):
    touch(tmp_path, "a/demographics.csv")
    with pytest.raises(FileNotFoundError, match=r"expected oasis_cross-sectional\*.csv, .*seen: demographics.csv"):
        find_table(tmp_path)
    touch(tmp_path, "b/oasis_cross-sectional-5708aa0a98d82080.xlsx")
    assert find_table(tmp_path).name.endswith(".xlsx")
    touch(tmp_path, "c/oasis_cross-sectional.xlsx")
    with pytest.raises(ValueError, match=r"several tables below .*; pass `table`"):
        find_table(tmp_path)


def sessions_of(tmp_path, *ids):
    touch(tmp_path, *(oasis(id) for id in ids))
    return discover(tmp_path)[0]


def test_both_anti_joins_are_reported(tmp_path):
    sessions = sessions_of(tmp_path, "OAS1_0001_MR1", "OAS1_0002_MR1")
    pairs, problems = join(sessions, [Row("OAS1_0002_MR1", cdr=1.0), Row("OAS1_0003_MR1"), Row("OAS1_0002_MR2")])
    assert [(s.id, row.cdr) for s, row in pairs] == [("OAS1_0002_MR1", 1.0)]
    assert [str(p) for p in problems] == [
        "OAS1_0001_MR1: a volume without a row in the table: add the row, or remove the volume",
        "table: 1 row without a volume (OAS1_0003_MR1): is a disc missing?",
    ]


@pytest.mark.parametrize(("repeats", "kept"), [("drop", 1), ("keep", 2), ("fail", 1)])
def test_repeat_scans(tmp_path, repeats, kept):
    sessions = sessions_of(tmp_path, "OAS1_0001_MR1", "OAS1_0001_MR2")
    pairs, problems = join(sessions, [Row("OAS1_0001_MR1"), Row("OAS1_0001_MR2")], repeats)
    assert len(pairs) == kept
    expected = {
        "drop": ["visits: 1 repeat scan dropped (OAS1_0001_MR2): pass repeats='keep' to use them"],
        "keep": [],
        "fail": ["OAS1_0001_MR2: unexpected MR2: pass repeats='drop' or 'keep'"],
    }
    assert [str(p) for p in problems] == expected[repeats]
    assert [p.warning for p in problems] == [True] * (repeats == "drop") + [False] * (repeats == "fail")


def test_an_mr2_alone_is_unexpected(tmp_path):
    pairs, problems = without_table(sessions_of(tmp_path, "OAS1_0001_MR2", "OAS1_0002_MR1"))
    assert [s.id for s, _ in pairs] == ["OAS1_0002_MR1"]
    assert "unexpected MR2: `OAS1_0001` has no MR1" in str(problems[0])
    with pytest.raises(ValueError, match=r"`repeats` must be one of drop, keep, fail, got 'all'"):
        without_table([], "all")
