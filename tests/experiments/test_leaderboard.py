"""Leaderboards: their order, their best, and what a comparison's says in words, as CSV and as bars."""

import json
import math
import re

import pytest

from experiments.judge import Result
from experiments.leaderboard import (
    Contender,
    Entry,
    as_figure,
    as_json,
    as_markdown,
    by_validation,
    how_to_read,
    places,
    rank_results,
    score_table,
    scores_by_sampler,
    winner_sentence,
)
from experiments.tables import Markdown, for_terminal, for_ui, without_links

NAME = "fd_random-conv-v1"


def result(val, test, kid=0.25):
    scores = {sampler: {NAME: value} for sampler, value in val.items()}
    tested = {s: {NAME: v, f"real_{NAME}": 0.5, "kid_random-conv-v1": kid, "n": 60.0} for s, v in test.items()}
    return Result("r", None, NAME, scores, tested)


@pytest.fixture
def board():
    a = result({"prior": 3.0, "mixture": 1.0}, {"prior": 0.0, "mixture": 9.123456789})
    return rank_results({"a": a, "b": result({"prior": 2.0}, {"prior": 5.0}, kid=0.5)}, {"a": Markdown("[run](#/r)")})


def test_a_comparison_ranks_by_validation_and_never_calls_other_features_fid(board):
    assert [entry.contender for entry in board] == [("a", "", "mixture"), ("b", "", "prior"), ("a", "", "prior")]
    table = as_markdown(board)
    assert "It is not FID" in table
    assert "| 1 | a | mixture | **1.000** | 9.123 | **0.2500** | [run](#/r) |" in table
    assert "| 2 | b | prior | 2.000 | 5.000 | 0.5000 |  |" in table
    assert "real against real 0.5 " in table


def test_the_kernel_distance_stands_beside_the_frechet_distance(board):
    head = score_table(board).splitlines()[0]
    assert f"| {NAME} (weak) val ↓ | {NAME} (weak) test ↓ | KID test ↓ |" in head
    assert "without bias" in how_to_read(board)


def test_columns_that_nobody_has_are_left_out_and_entries_without_scores_come_last():
    empty = Entry("", Contender("young", "", ""), "", {0: {}}, {0: {}})
    scored = Entry("", Contender("vae", "", "prior"), "fid", {0: {"fid": 1.0}}, {0: {}})
    lines = score_table([empty, scored]).splitlines()
    assert lines[0] == "| # | model and sampler | fid val ↓ |"
    assert lines[2:] == ["| 1 | vae / prior | 1.000 |", "| 2 | young | – |"]


def seeded(name, *scores, novelty=1.0, **more):
    val = {seed: {"fid": value, "code_novelty": novelty} for seed, value in enumerate(scores)}
    return Entry("", Contender(name, "", "prior"), "fid", val, {seed: dict(more) for seed in val})


def test_rows_within_the_standard_error_of_their_difference_share_a_place():
    """b is worse than a by 1, -1 and 0.6 (mean .2, standard error .61), c by 1 to 1.2 in each seed."""
    a, b = seeded("a", 1.0, 5.0, 9.0), seeded("b", 2.0, 4.0, 9.6)
    c, d = seeded("c", 2.0, 6.1, 10.2), seeded("d", 7.0, 7.0, 7.0)
    board = by_validation([c, d, b, a])
    assert [(entry.contender.model, place) for entry, place in zip(board, places(board), strict=True)] == [
        ("a", "1="),
        ("b", "1="),
        ("c", "3="),
        ("d", "3="),
    ]
    assert "| 1= | a / prior |" in score_table(board)
    assert places([seeded("a", 1.0), seeded("b", 1.001)]) == ["1", "2"], "one seed tells nothing of noise"
    # other seeds: 2 against 4, standard errors 1 and 1
    other = Entry("", Contender("x", "", "prior"), "fid", {7: {"fid": 3.0}, 8: {"fid": 5.0}}, {})
    assert places([seeded("a", 1.0, 3.0), other]) == ["1", "2"]
    wider = Entry("", Contender("x", "", "prior"), "fid", {7: {"fid": 2.0}, 8: {"fid": 6.0}}, {})
    assert places([seeded("a", 1.0, 3.0), wider]) == ["1=", "1="]


def test_a_sampler_that_copies_is_marked_and_never_leads():
    copier, honest = seeded("copier", 1.0, novelty=0.6, code_novelty=0.6), seeded("honest", 9.0, code_novelty=1.0)
    board = by_validation([copier, honest])
    assert [entry.contender.model for entry in board] == ["honest", "copier"]
    table = score_table(board)
    assert "| 2 | copier / prior | 1.000 | 0.6000 copies |" in table  # not bold, though its distance is the lowest
    assert "| 1 | honest / prior | 9.000 | 1.000 |" in table
    assert winner_sentence([copier]).endswith("nothing else was drawn.")
    assert "it copies" in winner_sentence([copier])
    assert "it copies" not in winner_sentence(board)


def test_what_makes_a_distance_doubtful_stands_in_its_head():
    few = seeded("few", 1.0, n=60.0, reference_n=90.0, n_features=2048.0, fid=1.0)
    enough = seeded("enough", 1.0, n=3000.0, reference_n=3000.0, n_features=2048.0, fid=1.0)
    assert "| fid (biased) test ↓ |" in score_table([few])
    assert "| fid test ↓ |" in score_table([enough])
    assert "*Biased*" in how_to_read([few])
    assert "*Biased*" not in how_to_read([enough])
    assert "| pixels (weak" not in score_table([enough])


def test_decoded_codes_class_shares_density_and_coverage_stand_beside_the_distance():
    more = {"fid": 3.0, "decoded_ratio": 1.5, "decoded_fid": 2.0, "decoded_n": 40.0, "kid": 0.1, "density": 0.9}
    entry = seeded("a", 1.0, **more, coverage=0.8, class_share_distance=0.05, code_novelty=1.1, nn_pixels_ratio=1.0)
    head = "fid test ↓ | x decoded ↓ | KID test ↓ | density ↑ | coverage ↑ | class shares ↓ | code novelty |"
    assert head in score_table([entry])
    assert "decoded held-out codes 2 (at n = 40)" in as_markdown([entry])


def test_one_seed_is_said_in_the_first_line(board):
    assert as_markdown(board).startswith("**One seed**")
    assert winner_sentence(board).startswith("With one seed, a with")
    assert not as_markdown([seeded("a", 1.0, 2.0)]).startswith("**One seed**")


def test_the_best_of_each_column_is_bold_on_its_better_side():
    def entry(name, prd):
        return Entry("", Contender(name, "", "prior"), "fid", {0: {"fid": prd}}, {0: {"prd_f8": prd}})

    table = score_table([entry("low", 0.25), entry("high", 0.75)])
    assert "| low / prior | **0.2500** | 0.2500 |" in table
    assert "| high / prior | 0.7500 | **0.7500** |" in table


def test_the_table_of_a_comparison_for_programs_keeps_all_digits(board):
    table = json.loads(as_json(board))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["place"] for row in rows] == ["1", "2", "3"]
    assert rows[0][f"test_{NAME}"] == 9.123456789


def test_bars_stand_in_the_order_of_the_board(board):
    axes = as_figure(board).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [3.0, 2.0, 1.0]  # from below
    assert axes.get_yticklabels()[-1].get_text() == "a / mixture"


def test_the_winner_is_held_against_the_next_model_or_else_the_next_sampler():
    rows = [("vae", "mixture", 2.0), ("vae", "prior", 2.5), ("ae", "prior", 9.0)]
    board = [Entry("", Contender(m, "", s), "fid", {0: {"fid": value}}, {0: {}}) for m, s, value in rows]
    assert winner_sentence(board).endswith("fid 2 against 9 of the next model, ae with the prior sampler.")
    assert winner_sentence(board[:2]).endswith("fid 2 against 2.5 of the next sampler, prior.")
    assert winner_sentence(board[:1]).endswith("fid 2; nothing else was drawn.")


def test_scores_of_samplers_are_found_among_the_metrics_of_a_run():
    metrics = {"score/fid": 1.0, "score/prior/fid": 2.0, "val_score/prior/fid": 3.0, "sampler/prior/seconds": 4.0}
    assert scores_by_sampler(metrics, "score") == {"prior": {"fid": 2.0}}
    assert scores_by_sampler(metrics, "val_score") == {"prior": {"fid": 3.0}}


def test_a_missing_number_is_no_number_of_a_mean():
    entry = Entry("", Contender("a", "", "b"), "fid", {}, {0: {"fid": 1.0}, 1: {"fid": math.nan}, 2: {}})
    assert entry.values("fid") == [1.0]
    assert math.isnan(entry.mean("kid"))


def test_a_terminal_gets_no_links_and_a_description_as_many_as_fit(board):
    text = as_markdown(board)
    assert "[run](#/r)" in for_ui(text)
    (below_the_head,) = re.findall(r"^\|[-:| ]+\|$", text, re.MULTILINE)
    assert f"\n{below_the_head}\n" in for_ui(text), "without this line a reader of Markdown sees no table"
    assert "[run](#/r)" not in for_ui(text * 20)
    assert "**" not in for_terminal(text)
    assert "| run |" in for_terminal(text)
    assert without_links("![kept](x.png) [a\\]b](http://y)") == "![kept](x.png) a\\]b"
