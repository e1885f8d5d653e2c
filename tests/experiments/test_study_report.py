"""Reports of studies: ranks and tests against scipy and worked examples, tables, the paper's numbers beside ours."""

import math
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from scipy import stats

from experiments.leaderboard import Contender, Entry, score_table
from experiments.studies.cells import TRAINED, Cell, Study
from experiments.studies.execute import Found, Outcome, duration
from experiments.studies.ranking import entries_of, holm, rank, rank_table
from experiments.studies.reports import REPORTS
from experiments.studies.reports.scores import score_section
from experiments.studies.reports.table1 import TABLE1
from experiments.studies.study_report import bottom_line, in_short, undertrained, write_report
from experiments.tables import LONGEST_DESCRIPTION

HEAD = "fd_pixels"


def entry(name, values, data="d"):
    scores = {seed: {HEAD: value, "n": 50.0, f"real_{HEAD}": 1.0} for seed, value in enumerate(values)}
    return Entry(data, Contender(name, "", "prior"), HEAD, scores, scores)


def test_ranks_ratios_and_tests_are_those_of_scipy():
    a, b, c = [1.0, 2.0, 3.0, 4.0], [1.5, 2.2, 3.9, 4.1], [0.9, 4.0, 6.0, 8.0]
    ranking = rank([entry("b", b), entry("a", a), entry("c", c)])
    assert [s.contender.model for s in ranking.standings] == ["a", "b", "c"]
    assert [s.rank for s in ranking.standings] == [1.25, 2.25, 2.5]
    assert ranking.blocks == 4
    raw = [stats.ttest_rel(np.log(x), np.log(a)).pvalue for x in (b, c)]
    assert ranking.standings[1].p == pytest.approx(max(2 * min(raw), raw[0]) if raw[0] > raw[1] else 2 * raw[0])
    assert ranking.standings[2].ratio == pytest.approx(stats.gmean(np.divide(c, a)))
    assert ranking.standings[2].wins == 1
    assert ranking.friedman == pytest.approx(stats.friedmanchisquare(a, b, c).pvalue)


def test_a_contender_that_misses_a_block_is_not_ranked():
    ranking = rank([entry("a", [1.0, 2.0]), entry("b", [2.0, 3.0]), entry("c", [0.1])])
    assert [s.contender.model for s in ranking.standings] == ["a", "b"]


def test_without_spread_there_is_no_division_by_zero():
    assert rank([entry("a", [1.0, 2.0]), entry("b", [1.0, 2.0])]).standings[1].p == 1.0
    single = [entry("a", [1.0]), entry("b", [2.0])]
    assert math.isnan(rank(single).standings[1].p)
    assert rank_table(single) == ""
    assert rank([]).standings == []


def test_holm_on_a_worked_example():
    names = [Contender(name, "", "") for name in "abcd"]
    adjusted = holm(dict(zip(names, [0.01, 0.04, 0.03, math.nan], strict=True)))
    assert [adjusted[name] for name in names[:3]] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(adjusted[names[3]])


def outcome(variant, metrics, seed=0):
    config = {"extractor": "pixels", "samplers": ["riemannian"] if variant else None}
    cell = Cell("d", "vae", seed, {TRAINED: config, "far": config | {"samplers": ["riemannian"]}}, {"near": TRAINED})
    return Outcome(cell, variant, Found("r", metrics), None)


def test_outcomes_become_entries_and_a_variant_without_options_repeats_what_was_trained():
    trained = {
        "val_score/prior/fd_pixels": 3.0,
        "val_score/riemannian/fd_pixels": 2.0,
        "score/riemannian/fd_pixels": 1.0,
    }
    outcomes = [outcome(TRAINED, trained), outcome("far", {"val_score/riemannian/fd_pixels": 9.0})]
    study = Study("s", "ci", "t", "", "scores", [outcomes[0].cell], ["near", "far"])
    entries = entries_of(study, outcomes, lambda run_id: f"#/{run_id}")
    assert [tuple(one.contender) for one in entries] == [
        ("vae", "", "prior"),
        ("vae", "", "riemannian"),
        ("vae", "near", "riemannian"),
        ("vae", "far", "riemannian"),
    ]
    assert [str(one.contender) for one in entries[1:3]] == ["vae / riemannian", "vae / riemannian, near"]
    assert [one.repeats for one in entries] == [False, False, True, False]
    assert entries[2].mean(HEAD, "val") == 2.0
    assert entries[2].mean(HEAD) == 1.0
    assert entries[3].mean(HEAD, "val") == 9.0
    assert math.isnan(entries[3].mean(HEAD))
    assert entries[3].runs == ["[0](#/r)"]


def test_a_second_name_is_neither_a_row_nor_a_rival():
    own, other = entry("a", [1.0, 2.0]), entry("b", [3.0, 5.0])
    again = replace(own, contender=own.contender._replace(variant="as trained"), repeats=True)
    assert score_table([own, again, other]) == score_table([own, other])
    assert rank([own, again, other]) == rank([own, other])


def test_a_description_holds_what_fits_and_says_where_the_rest_is():
    text = in_short(["# T", "about", "x" * LONGEST_DESCRIPTION, "end"])
    assert text == "# T\n\nabout\n\nThe whole report is `report.html`, below *Artifacts*."


def test_tables_sort_by_validation_and_say_what_perfect_looks_like():
    text = score_section([entry("worse", [3.0, 4.0]), entry("better", [1.0, 2.0])])
    assert text.index("better / prior") < text.index("worse / prior")
    assert "1.50 ± 0.71" in text
    assert "n = 50; real against real 1 " in text


def test_the_bottom_line_says_who_cannot_be_told_apart():
    text = bottom_line([entry("a", [1.0, 1.0, 1.0]), entry("b", [9.0, 8.5, 9.1]), entry("c", [1.1, 0.9, 1.05])])
    assert "**a / prior** has the best mean rank" in text
    assert "1 of the 2 others are worse beyond chance" in text
    assert "not told apart from it: c / prior" in text
    assert "nothing can be tested" in bottom_line([entry("a", [1.0]), entry("b", [9.0])])
    assert bottom_line([entry("a", [1.0])]) == ""


def test_the_papers_table_has_13_rows_and_its_claim_holds_in_it():
    assert len(TABLE1) == 13
    for data in ("mnist", "svhn", "cifar", "celeba"):
        assert min(TABLE1, key=lambda row: row.entries[data].fid).label == "VAE, Riemannian"
    assert TABLE1[0].entries["celeba"] == (64.64, 0.29, 0.42)


def paper_entries(head, data, extra):
    entries = []
    for row in TABLE1:
        values = {0: {head: row.entries["mnist"].fid + extra, "n": 10_000.0, f"real_{head}": 1.0}}
        entries.append(Entry(data, Contender(row.model, TRAINED, row.sampler), head, values, values))
    return entries


def table1_text(entries):
    study = Study("s", "ci", "t", "", "table1", [], [])
    return "\n".join(part for part in REPORTS["table1"](study, entries, []) if isinstance(part, str))


def test_true_fid_on_the_papers_data_stands_beside_the_papers_with_the_difference():
    text = table1_text(paper_entries("fid", "mnist", 1.5))
    assert (
        "| VAE, Riemannian | 10.03 | 10.03 | – | – | – | – | – | – | – | – | 8.53 | 0.98 / 0.97 | +1.50 | 1 | 1 |  |"
        in text
    )
    assert "not FID" not in text
    assert "(Spearman): 1.00" in text


def test_other_features_and_other_data_are_never_subtracted_from_fid():
    text = table1_text(paper_entries("fd_random-conv-v1", "digits", 1.5))
    assert "**not FID**: no difference is formed" in text
    assert "The paper has no digits; its column mnist comes nearest" in text
    assert "difference |" not in text


def test_models_that_were_not_trained_to_the_end_are_marked_in_every_table(tmp_path):
    trained = outcome(
        TRAINED, {"val_score/prior/fd_pixels": 3.0, "score/prior/fd_pixels": 1.0, "best/undertrained": 1.0}
    )
    far = outcome("far", {"val_score/riemannian/fd_pixels": 9.0, "score/riemannian/fd_pixels": 9.0})
    study = Study("s", "ci", "t", "", "scores", [trained.cell], ["far"])
    entries = entries_of(study, [trained, far])
    assert [entry.mark for entry in entries] == [" †", " †"]
    assert (
        undertrained(entries) == "**Undertrained** (†): vae on d. Their validation loss was still falling at the end."
    )
    assert "| vae / prior † |" in score_table(entries)
    assert "† undertrained: " in score_section(entries)
    assert "| vae / prior † |" in rank_table([replace(e, test={0: {HEAD: 1.0}, 1: {HEAD: 2.0}}) for e in entries])
    marked = [replace(one, undertrained=one.contender.model == "wae") for one in paper_entries("fid", "mnist", 0.0)]
    assert "| WAE † |" in table1_text(marked)
    assert "| RAE |" in table1_text(marked)
    assert undertrained(paper_entries("fid", "mnist", 0.0)) == ""


@pytest.mark.parametrize(("seconds", "text"), [(45, "45 s"), (200, "3 min"), (9000, "2.5 h")])
def test_durations_are_words(seconds, text):
    assert duration(seconds) == text


def test_a_study_is_written_with_every_number_and_without_what_lies_elsewhere(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    metrics = {"val_score/prior/fd_pixels": 3.0, "score/prior/fd_pixels": 0.123456789012345, "score/prior/n": 5.0}
    cell = Cell("a/b", "vae", 0, {TRAINED: {"extractor": "pixels", "samplers": None, "scores": ["frechet"]}})
    study = Study("s", "ci", "A title", f"![shown]({secret})", "scores", [cell], [], {}, "command")
    output = tmp_path / "report"
    report = write_report(study, [Outcome(cell, TRAINED, Found("r1", metrics), None)], output, {"x|y": "a *b*"}, str)
    assert {path.as_posix() for path in report.files} == {"report.md", "report.html", "scores.csv"}
    assert "a/b,vae,,prior,0,test,fd_pixels,0.123456789012345" in (output / "scores.csv").read_text()
    page = report.html.read_text()
    assert "<img" not in page
    assert "0.1235" in page
    assert 'href="r1"' in page
    assert "x|y: a *b*" in page
    assert "[0](" not in report.summary


def test_figure_3_reads_each_data_set_by_its_own_headline(monkeypatch):
    module, values = import_module("experiments.studies.reports.figure3"), [{"fd_pixels": 1.25}, {"fid": 7.5}]
    outcomes = []
    for data, extractor, head in (("digits", "pixels", "fd_pixels"), ("faces", "inception", "fid")):
        cell = Cell(data, "vae", 0, {TRAINED: {"extractor": extractor}})
        outcomes.append(Outcome(cell, TRAINED, Found("r", {f"val_score/prior/{head}": 1.0}), None))
    for name in ("load_model", "draw", "_reconstruct", "_neighbour_picture"):
        monkeypatch.setattr(module, name, MagicMock(return_value=MagicMock(__len__=lambda _: 1)))
    monkeypatch.setattr(module, "_evaluate", lambda *_: SimpleNamespace(values=values.pop(0), nearest={}))
    failed = Cell("failed", "vae", 0, {})
    study = Study("s", "ci", "t", "", "figure3", [one.cell for one in outcomes] + [failed], [])
    digits, _, faces, *_ = module.figure3(study, [], outcomes)
    assert "| prior | 1.250 |" in digits
    assert "| prior | 7.500 |" in faces


def test_a_report_is_found_by_its_name():
    for name, report in REPORTS.items():
        assert report.__module__ == f"experiments.studies.reports.{name}"
