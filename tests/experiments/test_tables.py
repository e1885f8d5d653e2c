"""Tables: what a reader of Markdown and of CSV makes of the text that comes out."""

import csv
import io
import math

import pytest
from markdown_it import MarkdownIt

from experiments.tables import Markdown, as_csv, as_markdown, escape, format_number, link, mean_and_sd

HOSTILE = [
    "a|b",
    "**bold**",
    "<b>x</b>",
    "&lt;",
    "[x](y)",
    "`code`",
    "_a_",
    "fd_random-conv",
    "back\\slash",
    "two\nlines",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_read_back_as_it_was(text):
    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(as_markdown(["name", "n"], [[text, 1]]))
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 4
    assert [child.type for child in cells[2].children] == ["text"]
    assert cells[2].children[0].content == " ".join(text.split())


def test_numbers_have_four_significant_digits_and_what_is_missing_a_dash():
    row = [0.123456789012345, 3, None, math.nan, Markdown("**7**")]
    assert as_markdown(list("abcde"), [row]).splitlines()[2] == "| 0.1235 | 3 | – | – | **7** |"


@pytest.mark.parametrize(
    ("value", "text"), [(1234.56, "1235"), (123456.7, "123457"), (1e-7, "1e-07"), (2.0, "2"), (10**6, "1000000")]
)
def test_large_numbers_stay_readable(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "–"),
        ([1.23456], "1.235"),
        ([13.0], "13.00"),
        ([1234.0], "1234"),
        ([1.0, 2.0], "1.50 ± 0.71"),
        ([100.0, 140.0], "120 ± 28"),
        ([3.0, 3.0], "3.0000 ± 0.0000"),
    ],
)
def test_means_show_as_many_digits_as_their_spread_allows(values, text):
    assert mean_and_sd(values) == text


def test_csv_keeps_every_digit_and_quotes_what_needs_it():
    rows = [["a,b", 'say "x"', 0.1 + 0.2], ["line\nbreak", "", 1]]
    read = list(csv.reader(io.StringIO(as_csv(["x", "y", "z"], rows))))
    assert read == [["x", "y", "z"], ["a,b", 'say "x"', "0.30000000000000004"], ["line\nbreak", "", "1"]]


def test_a_link_cannot_be_left_by_its_address():
    html = MarkdownIt("commonmark", {"html": False}).render(link("a [b]", "http://x/) <img src=y>"))
    assert "<img" not in html
    assert html.count("<a ") == 1
    assert link("name", "") == escape("name")


def test_text_stands_to_the_left_and_numbers_to_the_right():
    rows = [["a", 1.5, "1.50 ± 0.71", None], ["b", -2, Markdown("**1.50**"), ""]]
    assert as_markdown(["name", "x", "y", "z"], rows).splitlines()[1] == "| :--- | ---: | ---: | ---: |"
