"""The table of a cohort (csv, tsv, xlsx) and its join with the sessions; whatever has no partner is reported.

OASIS-1: `ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay`. CDR (clinical dementia rating) is blank for 201
sessions, mostly of young subjects: not assessed, never 0. Age is a confound of CDR, so it is kept beside it.
"""

import csv
import io
import math
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from geovae.checks import check_choice
from geovae.images import walk_files
from geovae.mri.cohort.discover import Session
from geovae.mri.problems import Problem, plural, shorten

Repeats = Literal["drop", "keep", "fail"]
COLUMNS = {  # our name: names in lower case that tables use
    "id": ("id", "participant_id", "session_id", "subject"),
    "sex": ("m/f", "sex", "gender"),
    "age": ("age", "age_bl", "age_at_scan"),  # Clinica writes `age_bl`: at the first visit
    "cdr": ("cdr", "cdr_global"),
}
PATTERNS = ("oasis_cross-sectional*.csv", "oasis_cross-sectional*.xlsx", "participants.tsv")
BLANK = ("", "n/a", "na", "nan", "none")
CDR_LABELS = {0.0: 0, 0.5: 1, 1.0: 2, 2.0: 3, 3.0: 4}
NOT_ASSESSED = -1
OLDEST = 130  # years
LARGEST = 1 << 26  # bytes of a table, unpacked
ROWS, WIDTH = 50_000, 256  # lines and columns that are read


@dataclass(frozen=True)
class Row:
    """One row: id of a session or subject, sex, age in years (NaN if blank), CDR (NaN if blank: not assessed)."""

    id: str
    sex: str = ""
    age: float = math.nan
    cdr: float = math.nan

    @property
    def label(self) -> int:
        """The CDR as a class: 0, 0.5, 1, 2, 3 are 0 to 4; not assessed is -1."""
        return NOT_ASSESSED if math.isnan(self.cdr) else CDR_LABELS[self.cdr]


Pair = tuple[Session, Row]


def find_table(source: str | Path) -> Path:
    """Return the table below a folder.

    Raises:
        FileNotFoundError: if there is none; it shows the patterns and the tables there.
        ValueError: if there are several.
    """
    folder = Path(source)
    files = walk_files(folder, ("",)).files
    tables = next((hits for pattern in PATTERNS if (hits := [p for p in files if p.match(pattern)])), [])
    if len(tables) > 1:
        raise ValueError(f"several tables below `{folder}`: {shorten(map(str, tables))}; pass `table`")
    if not tables:
        seen = shorten([p.name for p in files if p.suffix in (".csv", ".tsv", ".xlsx", ".txt")]) or "no table at all"
        raise FileNotFoundError(
            f"no table below `{folder}`: expected {', '.join(PATTERNS)}, seen: {seen}; pass `table`, a path, or None "
            "to do without (every label is then -1)"
        )
    return tables[0]


def read_table(path: str | Path, *, required: Sequence[str] = tuple(COLUMNS)) -> tuple[list[Row], list[Problem]]:
    """Return the sound rows of a csv, tsv or xlsx file, and its problems; the columns `required` must exist.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as a table.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table `{path}`: pass the path of a csv, tsv or xlsx file, or None")
    header, *lines = _read_lines(path)
    columns = _find_columns(header)
    missing = [COLUMNS[name][0] for name in required if name not in columns]
    if missing:
        return [], [Problem(path.name, f"missing column {', '.join(missing)}; it has {', '.join(header)}")]
    unknown = [COLUMNS[name][0] for name in COLUMNS if name not in columns]
    rows, problems = [], []
    if unknown:
        what = f"no column {', '.join(unknown)}: left unknown, a label is then -1; it has {', '.join(header)}"
        problems.append(Problem(path.name, what, warning=True))
    for line in lines:
        cells = {name: line[i].strip() for name, i in columns.items() if i < len(line)}
        try:
            if len(cells) < len(columns):
                raise ValueError(f"its line ends after {len(line)} of {len(header)} cells: a damaged file?")
            rows.append(_parse_row(cells))
        except ValueError as error:
            problems.append(Problem(cells.get("id") or path.name, str(error)))
    twice = [id for id, n in Counter(row.id for row in rows).items() if n > 1]
    problems += [Problem(id, f"duplicate id in `{path.name}`: keep one of its rows") for id in twice]
    return [row for row in rows if row.id not in twice], problems


def join(
    sessions: Sequence[Session], rows: Sequence[Row], repeats: Repeats = "drop"
) -> tuple[list[Pair], list[Problem]]:
    """Return sessions with their rows (by session id, or by subject), and problems: what has no partner.

    Later visits of a subject (MR2) are dropped, kept or, with `fail`, a problem; one without the first always is.
    """
    used, problems = _visits(sessions, repeats)
    by_id = {row.id: row for row in rows}
    matches = [(s, by_id.get(s.id, by_id.get(s.subject))) for s in used]
    names = {name for s in sessions for name in (s.id, s.subject)}
    expected = [id for id in (row.id for row in rows) if repeats == "keep" or "_MR" not in id or id.endswith("_MR1")]
    unused = [id for id in expected if id not in names]
    problems += [
        Problem(session.id, "a volume without a row in the table: add the row, or remove the volume")
        for session, row in matches
        if row is None
    ]
    if unused:
        what = f"{plural(len(unused), 'row')} without a volume ({shorten(unused)}): is a disc missing?"
        problems.append(Problem("table", what))
    return [(session, row) for session, row in matches if row is not None], problems


def without_table(sessions: Sequence[Session], repeats: Repeats = "drop") -> tuple[list[Pair], list[Problem]]:
    """Return sessions with empty rows, and the problems of visits."""
    used, problems = _visits(sessions, repeats)
    return [(session, Row(session.id)) for session in used], problems


def _visits(sessions: Sequence[Session], repeats: Repeats) -> tuple[list[Session], list[Problem]]:
    """Return the sessions to use, and problems of visits that are not expected."""
    check_choice("repeats", repeats, get_args(Repeats))
    complete = {s.subject for s in sessions if s.visit == 1}
    alone = [s for s in sessions if s.subject not in complete]
    later = [s for s in sessions if s.subject in complete and s.visit != 1]
    problems = [Problem(s.id, f"unexpected MR{s.visit}: `{s.subject}` has no MR1") for s in alone]
    if later and repeats == "drop":
        ids = shorten(s.id for s in later)
        sentence = f"{plural(len(later), 'repeat scan')} dropped ({ids}): pass repeats='keep' to use them"
        problems.append(Problem("visits", sentence, warning=True))
    if repeats == "fail":
        problems += [Problem(s.id, f"unexpected MR{s.visit}: pass repeats='drop' or 'keep'") for s in later]
    return [s for s in sessions if s.visit == 1 or (repeats == "keep" and s.subject in complete)], problems


def _find_columns(header: Sequence[str]) -> dict[str, int]:
    """Return the position of each of our columns that the header has under one of its names."""
    names = [name.strip().lower() for name in header]
    return {ours: names.index(n) for ours, theirs in COLUMNS.items() for n in reversed(theirs) if n in names}


def _parse_row(cells: dict[str, str]) -> Row:
    """Return the row of cells by our name.

    Raises:
        ValueError: without an id, or for an age or CDR that cannot be.
    """
    if not cells.get("id"):
        raise ValueError("a row without an id")
    cdr = _parse_number(cells.get("cdr", ""), "CDR")
    if not math.isnan(cdr) and cdr not in CDR_LABELS:
        raise ValueError(f"CDR must be one of 0, 0.5, 1, 2, 3 or blank, got {cells['cdr'][:30]}")
    age = _parse_number(cells.get("age", ""), "Age")
    if not math.isnan(age) and not 0 <= age <= OLDEST:
        raise ValueError(f"Age must lie between 0 and {OLDEST} years or be blank, got {cells['age'][:30]}")
    return Row(cells["id"], cells.get("sex", ""), age, cdr)


def _parse_number(cell: str, name: str) -> float:
    """Return a cell as a number, NaN for a blank."""
    if cell.lower() in BLANK:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{name} must be a number or blank, got {cell[:30]!r}") from None


def _read_lines(path: Path) -> list[list[str]]:
    """Return the cells of every line that is not blank, the header first."""
    try:
        cells = _read_xlsx(path) if path.suffix == ".xlsx" else _read_text(path)
    except Exception as error:  # openpyxl raises what zipfile, its XML parser and itself find wrong
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"`{path.name}` cannot be read as a table: {reason}") from error
    lines = [line for line in cells if any(cell.strip() for cell in line)]
    if len(lines) < 2:
        raise ValueError(f"`{path.name}` holds no rows")
    return lines


def _read_xlsx(path: Path) -> list[list[str]]:
    """Return the cells of the first sheet; a formula has the value that was stored with it, and must have one."""
    from openpyxl import load_workbook
    from openpyxl.utils import get_column_letter

    with zipfile.ZipFile(path) as archive:
        if (size := sum(member.file_size for member in archive.infolist())) > LARGEST:
            raise ValueError(f"it unpacks to {size} bytes, at most {LARGEST} are read")
    read = []
    for values in (True, False):  # what Excel calculated, and what somebody typed
        book = load_workbook(path, read_only=True, data_only=values)
        # capped: one cell in the last row and column would stand for 17 billion
        lines = book.active.iter_rows(max_row=ROWS + 1, max_col=WIDTH, values_only=True)
        read.append(list(lines))
        book.close()
    for row, (found, typed) in enumerate(zip(*read, strict=True), 1):
        for column, (value, formula) in enumerate(zip(found, typed, strict=True), 1):
            if value is None and formula is not None:
                cell = f"{get_column_letter(column)}{row}"
                raise ValueError(f"cell {cell} holds a formula, {str(formula)[:30]}, without a value: save it by Excel")
    width = max(map(len, read[0]), default=0)  # rows end with their last cell that is not empty
    lines = [[*line, *[None] * (width - len(line))] for line in read[0]]
    return _limited([["" if c is None else str(c) for c in line] for line in lines])


def _read_text(path: Path) -> list[list[str]]:
    """Return the cells of a csv or tsv file that does not end within a number that is used."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has {path.stat().st_size} bytes, at most {LARGEST} are read")
    text = path.read_text(encoding="utf-8-sig")  # Excel writes a byte order mark
    separator = "\t" if path.suffix == ".tsv" else ","
    cells = _limited(list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)))
    if len(cells) > 1 and not text.endswith(("\n", "\r")):
        header, last = cells[0], cells[-1]
        used = _find_columns(header)
        if len(last) < len(header) or {used.get("age"), used.get("cdr")} & {len(last) - 1}:
            where = f"line {len(cells)} ends within {header[len(last) - 1]!r}, {last[-1][:30]!r}"
            raise ValueError(f"{where}: a truncated file? If it is whole, end the line with a line break")
    return cells


def _limited(cells: list[list[str]]) -> list[list[str]]:
    if len(cells) > ROWS:
        raise ValueError(f"it has more than {ROWS} lines")
    return cells
