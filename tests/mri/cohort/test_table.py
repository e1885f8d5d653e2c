"""Reading a cohort's table and joining it with the sessions."""

import csv
import math

import pytest

from geovae.mri import discover
from geovae.mri.cohort.rows import Row, parse_row
from geovae.mri.cohort.table import find_table, join, read_table, without_table
from tests.mri.cohort.test_discover import oasis, touch

HEADER = "ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay\n"


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
    assert rows[0] == Row("OAS1_0001_MR1", "F", 74.0, cdr=0.0, label=0)
    assert math.isnan(rows[1].cdr)
    assert rows[1].label == -1
    assert [parse_row({"id": "a", "cdr": c}).label for c in ("0.5", "1", "2.0", "3")] == [1, 2, 3, 4]


def test_the_same_table_as_xlsx_and_tsv(tmp_path):
    from openpyxl import Workbook

    lines = [HEADER.strip().split(","), ["OAS1_0001_MR1", "F", "R", 74, 2, 3, 29, 0.5, 1344, 0.743, 1.306, None]]
    book = Workbook()
    for line in lines:
        book.active.append(line)
    book.save(tmp_path / "t.xlsx")
    with (tmp_path / "t.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(lines)
    expected = [Row("OAS1_0001_MR1", "F", 74.0, cdr=0.5, label=1)]
    assert read_table(tmp_path / "t.xlsx") == (expected, [])
    assert read_table(tmp_path / "t.tsv") == (expected, [])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("OAS1_0001_MR1,F,R,74,2,3,29,0.7,1,1,1,N/A", "CDR must be one of 0, 0.5, 1, 2, 3 or blank, got 0.7"),
        (
            "OAS1_0001_MR1,F,R,x,2,3,29,0,1,1,1,N/A",
            "Age must be a number, a lower bound such as 89+, or blank, got 'x'",
        ),
        (",F,R,70,2,3,29,0,1,1,1,N/A", "a row without an id"),
        ("OAS1_0001_MR1,F,R,700,2,3,29,0,1,1,1,N/A", "Age must be at most 130 years, got '700'"),
        *(
            (
                f"OAS1_0001_MR1,F,R,{age},2,3,29,0,1,1,1,N/A",
                f"Age must be a number, a lower bound such as 89+, or blank, got '{age}'",
            )
            for age in ("-30", "1e309", "inf")
        ),
        ("OAS1_0001_MR1,F,R,70,2,3,29,inf,1,1,1,N/A", "CDR must be one of 0, 0.5, 1, 2, 3 or blank, got inf"),
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


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a,F,70", r"line 2 has no cell for 'CDR': truncated\? A blank cell has its separator"),
        ("a,F,70,5,0.5", "line 2 has 5 cells, the header 4: a comma in a cell"),
    ],
)
def test_a_line_of_another_width_would_shift_its_cells(line, sentence, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"ID,M/F,Age,CDR\n{line}\nb,F,71,0.5,,\n")
    with pytest.raises(ValueError, match=sentence):
        read_table(path)
    path.write_text("ID,M/F,Age,CDR\na,F,70,\n,,\nb,F,71,0.5,,\n")
    assert [row.label for row in read_table(path)[0]] == [-1, 1]


def test_the_spellings_of_clinica(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tsex\tage_bl\tcdr_global\nsub-OASIS10001\tF\t60\t0.5\n")
    assert read_table(path) == ([Row("sub-OASIS10001", "F", 60.0, cdr=0.5, label=1)], [])


def test_bad_tables_have_their_sentence(tmp_path):
    line = "OAS1_0001_MR1,F,R,74,2,3,29,0,1,1,1,N/A\n"
    assert "OAS1_0001_MR1: duplicate id in `t.csv`" in str(read_table(write(tmp_path / "t.csv", line * 2))[1][0])
    (tmp_path / "u.csv").write_text("ID,Age\nOAS1_0001_MR1,70\n")
    assert "missing column m/f, cdr; it has ID, Age" in str(read_table(tmp_path / "u.csv")[1][0])
    left = read_table(tmp_path / "u.csv", required=())[1]
    assert [(str(p), p.warning) for p in left] == [
        ("u.csv: no column m/f, cdr: left unknown; it has ID, Age", True),
        ("u.csv: nothing to label by: every label is -1, unknown", True),
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


@pytest.mark.parametrize(
    ("cell", "age", "at_least"),
    [
        ("89+", 89, True),
        ("90 or older", 90, True),
        (">89", 89, True),
        ("≥ 90", 90, True),
        ("90 years and over", 90, True),
        ("over 89", 89, True),
        ("74", 74, False),
        ("34.5", 34.5, False),
        ("071Y", 71, False),
        ("n/a", math.nan, False),
    ],
)
def test_ages_of_de_identified_data_are_bounds(cell, age, at_least):
    row = parse_row({"id": "a", "age": cell})
    assert (row.age, row.at_least) == pytest.approx((age, at_least), nan_ok=True)
    assert row.age_text == ("" if math.isnan(age) else f"{age:g}{'+' if at_least else ''}")


@pytest.mark.parametrize("cell", ["-3", "inf", "40-50", "<18", "+", "1e400", "٣٤x"])
def test_other_ages_are_refused(cell):
    with pytest.raises(ValueError, match="Age must be a number, a lower bound such as 89\\+, or blank, got"):
        parse_row({"id": "a", "age": cell})


def clinica(folder, sessions="session_id\tage\tcdr_global\tMMS\n"):
    """BIDS as Clinica's converter of OASIS-1 leaves it: `age_bl` of all, the CDR in a table of each subject."""
    rows = ["participant_id\talternative_id_1\tsex\teducation_level\tage_bl\tdiagnosis_bl\tlaterality"]
    for i, cdr in enumerate(("0", "0.5", "n/a")):
        subject = f"sub-OASIS1000{i + 1}"
        for session, years in (("ses-M000", 0), ("ses-M012", 1))[: 1 + (i == 1)]:
            touch(folder, f"{subject}/{session}/anat/{subject}_{session}_T1w.nii.gz")
            sessions += f"{session}\t{60 + i + years}\t{cdr if not years else 1}\t27\n"
        (folder / subject / f"{subject}_sessions.tsv").write_text(sessions)
        sessions = sessions.splitlines()[0] + "\n"
        rows.append(f"{subject}\tOAS1_000{i + 1}\tF\t2\t{60 + i}\t{('CN', 'AD', 'CN')[i]}\tR")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return discover(folder)[0], *read_table(folder / "participants.tsv", required=())


def test_sessions_of_bids_have_their_own_ages_and_grades(tmp_path):
    sessions, rows, wrong = clinica(tmp_path)
    assert wrong == []
    pairs, problems = join(sessions, rows, "keep")
    assert problems == []
    found = [(s.id, row.sex, row.age, row.label, row.diagnosis) for s, row in pairs]
    assert found == [
        ("sub-OASIS10001_MR1", "F", 60, 0, "CN"),
        ("sub-OASIS10002_MR1", "F", 61, 1, "AD"),
        ("sub-OASIS10002_MR2", "F", 62, 2, ""),  # the diagnosis at the first visit says nothing of the second
        ("sub-OASIS10003_MR1", "F", 62, -1, "CN"),  # the CDR is what labels: this subject was not assessed
    ]


def test_a_visit_without_a_row_is_unknown_not_the_first_one_again(tmp_path):
    sessions, rows, _ = clinica(tmp_path)
    pairs, problems = join(sessions, [row for row in rows if not row.id.endswith("M012")], "keep")
    later = next(row for s, row in pairs if s.visit == 2)
    assert (later.sex, math.isnan(later.age), later.label) == ("F", True, -1)
    assert "sub-OASIS10002_MR2: the table has no row of this visit" in str(problems[0])


def test_a_scan_at_another_visit_than_the_table_s_is_unknown(tmp_path):
    touch(tmp_path, "sub-01/ses-M012/anat/sub-01_ses-M012_T1w.nii.gz")
    rows = [Row("sub-01", "F", 70.0), Row("sub-01_ses-M000", "F", 70.0, cdr=0.5, label=1)]
    pairs, problems = join(discover(tmp_path)[0], rows)
    assert [(row.sex, math.isnan(row.age), row.label) for _, row in pairs] == [("F", True, -1)]
    assert "the table has no row of this visit" in problems[0].sentence


def test_a_table_of_visits_has_an_id_of_two_columns(tmp_path):
    """The table that Clinica merges from a BIDS data set; a subject without a scan is named once."""
    sessions, _, _ = clinica(tmp_path)
    lines = ["participant_id\tsession_id\tsex\tage\tdiagnosis", "sub-OASIS10001\tses-M000\tF\t60\tMCI"]
    lines += [f"sub-OASIS10002\t{s}\tF\t61\tAD" for s in ("ses-M000", "M012")]
    lines += ["sub-OASIS10003\tses-M000\tF\t62\tpsychosis", *(f"sub-9\tses-{i}\tM\t50\tCN" for i in (1, 2))]
    (tmp_path / "merged.tsv").write_text("\n".join(lines) + "\n")
    rows, remarks = read_table(tmp_path / "merged.tsv", required=())
    pairs, problems = join(sessions, rows, "keep")
    assert [(row.id, row.label) for _, row in pairs] == [
        ("sub-OASIS10001_ses-M000", 1),
        ("sub-OASIS10002_ses-M000", 2),
        ("sub-OASIS10002_ses-M012", 2),
        ("sub-OASIS10003_ses-M000", -1),
    ]
    assert [str(p) for p in problems] == ["table: 1 row without a volume (sub-9): is a disc missing?"]
    assert "no CDR: the labels are of the diagnosis, cn 0" in remarks[1].sentence
    assert "diagnoses without a label, which is then -1: psychosis" in remarks[2].sentence


def test_participants_without_their_prefix_are_found(tmp_path):
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\n01\t40\n")
    pairs, problems = join(discover(tmp_path)[0], read_table(tmp_path / "participants.tsv", required=())[0])
    assert [(row.age, problems) for _, row in pairs] == [(40, [])]


def test_a_refused_row_is_one_problem(tmp_path):
    sessions = sessions_of(tmp_path, "OAS1_0001_MR1")
    assert join(sessions, [], refused=["OAS1_0001_MR1"]) == ([], [])
