"""Who is excluded is nowhere but in the list of reasons, and a misspelt id is no exclusion."""

import json
import shutil

import numpy as np
import pytest

from geovae.mri import InputProblems, read_archive, read_manifest
from tests.mri.originals import prepare_with as prepare


def write(path, text):
    path.write_text(text)
    return path


def test_the_excluded_are_left_out_and_the_reasons_are_kept(cohort, tmp_path, small):
    shutil.copytree(cohort[0], tmp_path / "in")
    spoilt, *_ = (tmp_path / "in").rglob("OAS1_0003_MR1*t88_masked_gfc.img")
    spoilt.write_bytes(b"nothing")  # what is wrong with an excluded one does not matter
    list_ = write(tmp_path / "out.csv", 'id,reason\nOAS1_0003,motion\nOAS1_0005_MR1,"cyst, left"\n')
    report = prepare(tmp_path / "in", tmp_path, **small, exclude=list_)
    reasons = {"OAS1_0003": "motion", "OAS1_0005_MR1": "cyst, left"}
    ids = {row["id"] for row in read_manifest(tmp_path)}
    assert len(ids) == 6
    assert not {"OAS1_0003_MR1", "OAS1_0005_MR1"} & ids
    assert report["settings"]["excluded"] == read_archive(tmp_path)["settings"]["excluded"] == reasons
    assert json.loads((tmp_path / "oasis" / "prepare.json").read_text())["settings"]["excluded"] == reasons
    assert report["counts"]["excluded"] == 2
    assert not report["problems"]
    with np.load(tmp_path / "oasis" / "OASIS.npz") as archive:
        assert set(archive["ids"]) == ids


def test_an_id_that_nobody_has_is_a_problem(cohort, tmp_path, small):
    list_ = write(tmp_path / "out.tsv", "id\treason\nOAS1_0003_MRI\tmotion\n")
    with pytest.raises(InputProblems, match=r"OAS1_0003_MRI: `exclude` names it, but no session or"):
        prepare(cohort[0], tmp_path, **small, exclude=list_)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("subject,why\na,b\n", r"must have the columns id and reason, it has subject, why"),
        ("id,reason\na,\n", r"every line must have an id and a reason, got 'a' and ''"),
        ("id,reason\na,x\na,y\n", r"holds 'a' twice"),
    ],
)
def test_a_bad_list_has_its_sentence(cohort, tmp_path, small, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        prepare(cohort[0], tmp_path, **small, exclude=write(tmp_path / "out.csv", text))
    with pytest.raises(FileNotFoundError, match=r"no file .*none.csv`: `exclude` is a csv or tsv with the columns"):
        prepare(cohort[0], tmp_path, **small, exclude=tmp_path / "none.csv")
