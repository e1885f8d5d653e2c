"""Tables as Markdown and CSV: the one place that formats numbers, escapes text, joins cells, and ranks rows."""

import csv
import html
import io
import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

MISSING = "–"
LONGEST_DESCRIPTION = 7500  # characters; MLflow cuts a tag at 8000
Row = TypeVar("Row")
Scores = Mapping[str | int, float]
SHARED = (
    "Rows that share a place (=) differ from the first of them by no more than the standard error of the difference "
    "over seeds."
)
ONE_SEED = "**One seed**: differences between rows may be chance. A study or a sweep repeats them over seeds."


class Markdown(str):
    """Text that is Markdown already: a table writes it as it is, where it escapes all other text."""


Cell = str | float | None


def as_markdown(head: Sequence[Cell], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a Markdown table: text escaped, numbers with four significant digits, `–` for None and NaN.

    Columns of text are aligned to the left, columns of numbers to the right.
    """
    lines = [[format_cell(cell) for cell in row] for row in (head, *rows)]
    numeric = [all(re.match(r"[*+−–\d-]|$", line[i]) for line in lines[1:]) for i in range(len(head))]
    lines.insert(1, ["---:" if right else ":---" for right in numeric])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table for programs: numbers with all their digits, text quoted where it must be."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def format_cell(value: Cell) -> str:
    """Return a cell of a Markdown table."""
    if isinstance(value, Markdown):
        return value
    if isinstance(value, str):
        return escape(value)
    return MISSING if value is None else format_number(value)


def format_number(value: float) -> str:
    """Return a number with four significant digits, whole numbers in full; `–` for NaN."""
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return MISSING
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def mean_and_sd(values: Sequence[float], digits: int = 4) -> str:
    """Return mean ± standard deviation, with two digits of the deviation; `–` without values.

    A single value has no deviation and gets `digits` significant digits.
    """
    if not values:
        return MISSING
    if len(values) == 1:
        return f"{values[0]:#.{digits}g}".rstrip(".")
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    decimals = max(0, 1 - math.floor(math.log10(sd))) if sd > 0 else digits
    return f"{mean:.{min(decimals, 4)}f} ± {sd:.{min(decimals, 4)}f}"


def escape(text: str) -> str:
    """Return text on one line in which nothing is Markdown, HTML, or the end of a table's cell."""
    text = re.sub(r"([\\`*|\[\]])|(?<!\w)(_)|(_)(?!\w)", r"\\\1\2\3", " ".join(text.split()))
    # entities in place of backslashes, which not every reader of Markdown knows before `<` and `&`
    return re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")


def link(text: str, url: str) -> Markdown:
    """Return a link, or the text alone where there is no `url`."""
    target = re.sub(r"[\s<>()]", lambda found: f"%{ord(found[0]):02X}", url)
    return Markdown(f"[{escape(text)}]({target})" if url else escape(text))


def for_ui(markdown: str) -> str:
    """Return Markdown for a description in MLflow's UI, which gives the cells of a table no padding.

    Links go where the text would not fit into a tag.
    """
    rows = r"(?m)^\| (?!:?---).*$"  # all but the line below the head, without which it would be no table
    padded = re.sub(rows, lambda row: row[0].replace(" |", "&ensp; |"), markdown)
    return padded if len(padded) <= LONGEST_DESCRIPTION else without_links(padded)


def without_links(markdown: str) -> str:
    """Return Markdown with the text of each link in its place."""
    return re.sub(r"(?<!!)\[((?:[^\[\]\\]|\\.)*)\]\([^()]*\)", r"\1", markdown)


def for_terminal(markdown: str) -> str:
    """Return Markdown to be printed: without links, bold and escapes."""
    text = without_links(markdown).replace("**", "")
    return html.unescape(re.sub(r"\\([\\`*|\[\]_])", r"\1", text))


def leaderboard(rows: Sequence[Row], columns: Mapping[str, Callable[[Row], Cell]], places: Sequence[str]) -> str:
    """Return a ranked Markdown table: a line for each row, in the order given, with its place and a cell a column."""
    lines = [[place, *(cell(row) for cell in columns.values())] for place, row in zip(places, rows, strict=True)]
    return as_markdown(["#", *columns], lines)


def shared_places(
    rows: Sequence[Row], scores: Callable[[Row], Scores], kind: Callable[[Row], object] = lambda row: None
) -> list[str]:
    """Return the places of ordered rows; one shares the place of the first of those before it that it equals in noise.

    Args:
        rows: the best first.
        scores: of a row, by seed.
        kind: rows of different kinds share no place.
    """
    groups: list[list[Row]] = []
    for row in rows:
        if groups and kind(groups[-1][0]) == kind(row) and within_noise(scores(groups[-1][0]), scores(row)):
            groups[-1].append(row)
        else:
            groups.append([row])
    found: list[str] = []
    for group in groups:
        found += [f"{len(found) + 1}{'=' * (len(group) > 1)}"] * len(group)
    return found


def within_noise(a: Scores, b: Scores) -> bool:
    """Return whether two means over seeds differ by no more than the standard error of their difference.

    Scores of the same seeds are compared in pairs. One seed tells nothing of noise: then they differ.
    """
    common = sorted(a.keys() & b.keys(), key=str)
    if len(common) > 1:
        differences = [a[seed] - b[seed] for seed in common]
        return abs(statistics.fmean(differences)) <= statistics.stdev(differences) / math.sqrt(len(common))
    if min(len(a), len(b)) < 2:
        return False
    errors = [statistics.stdev(x.values()) / math.sqrt(len(x)) for x in (a, b)]
    return abs(statistics.fmean(a.values()) - statistics.fmean(b.values())) <= math.hypot(*errors)
