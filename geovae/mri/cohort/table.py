"""The table of a cohort (csv, tsv, xlsx) and its join with the sessions; both anti-joins are reported.

OASIS-1: `ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay`. CDR (clinical dementia rating) is blank for 201
sessions, mostly of young subjects: not assessed, never 0. Age is a confound of CDR, so it is carried along.
"""

import csv
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geovae.mri.cohort.discover import Session
from geovae.mri.problems import Problem, count, some

Repeats = Literal["drop", "keep", "fail"]
COLUMNS = {  # ours: as they are written elsewhere, lower case
    "id": ("id", "participant_id", "session_id", "subject"),
    "sex": ("m/f", "sex", "gender"),
    "age": ("age",),
    "cdr": ("cdr",),
}
PATTERNS = ("oasis_cross-sectional*.csv", "oasis_cross-sectional*.xlsx", "participants.tsv")
CDR_LABELS = {0.0: 0, 0.5: 1, 1.0: 2, 2.0: 3, 3.0: 4}
NOT_ASSESSED = -1


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


def find_table(source: str | Path) -> Path:
    """Return the table below a folder.

    Raises:
        FileNotFoundError: if there is none; it shows the patterns and what was seen.
        ValueError: if there are several.
    """
    folder = Path(source)
    files = sorted(Path(where) / name for where, _, names in os.walk(folder) for name in names)
    found = next((hits for pattern in PATTERNS if (hits := [p for p in files if p.match(pattern)])), [])
    if len(found) > 1:
        raise ValueError(f"several tables below `{folder}`: {some(map(str, found))}; pass `table`")
    if not found:
        seen = some([p.name for p in files if p.suffix in (".csv", ".tsv", ".xlsx", ".txt")]) or "no table at all"
        raise FileNotFoundError(
            f"no table below `{folder}`: expected {', '.join(PATTERNS)}, seen: {seen}; pass `table`, a path, or None "
            "to go without (every label is then -1)"
        )
    return found[0]


def read_table(
    path: str | Path, *, required: Sequence[str] = ("id", "sex", "age", "cdr")
) -> tuple[list[Row], list[Problem]]:
    """Return the sound rows of a csv, tsv or xlsx file, and its problems.

    Args:
        path: of the file.
        required: which of id, sex, age, cdr must be columns.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as a table.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table `{path}`: pass the path of a csv, tsv or xlsx file, or None")
    header, *lines = _lines(path)
    lower = [name.strip().lower() for name in header]
    place = {ours: next((lower.index(n) for n in names if n in lower), None) for ours, names in COLUMNS.items()}
    missing = [COLUMNS[name][0] for name in required if place[name] is None]
    if missing:
        return [], [Problem(path.name, f"missing column {', '.join(missing)}; it has {', '.join(header)}")]
    rows, problems = [], []
    for line in lines:
        cells = {name: line[i].strip() if i is not None and i < len(line) else "" for name, i in place.items()}
        try:
            rows.append(_row(cells))
        except ValueError as error:
            problems.append(Problem(cells["id"] or path.name, str(error)))
    twice = [id for id, n in Counter(row.id for row in rows).items() if n > 1]
    problems += [Problem(id, f"duplicate id in `{path.name}`: keep one of its rows") for id in twice]
    return [row for row in rows if row.id not in twice], problems


def join(
    sessions: Sequence[Session], rows: Sequence[Row], repeats: Repeats = "drop"
) -> tuple[list[tuple[Session, Row]], list[Problem]]:
    """Return sessions with their rows, in the order of sessions, and problems: what has no partner.

    Args:
        sessions: as `discover` returns them.
        rows: by session id, or by subject.
        repeats: later visits of a subject (MR2) are dropped, kept or a problem; one without the first always is.
    """
    kept, problems = _visits(sessions, repeats)
    by_id = {row.id: row for row in rows}
    pairs = [(s, by_id[s.id] if s.id in by_id else by_id[s.subject]) for s in kept if {s.id, s.subject} & set(by_id)]
    alone = [s.id for s in kept if not {s.id, s.subject} & set(by_id)]
    known = {name for s in sessions for name in (s.id, s.subject)}
    unused = [row.id for row in rows if row.id not in known and (repeats == "keep" or _is_first(row.id))]
    problems += [Problem(id, "a volume without a row in the table: add the row, or remove the volume") for id in alone]
    if unused:
        what = f"{count(len(unused), 'row')} without a volume ({some(unused)}): is a disc missing?"
        problems.append(Problem("table", what))
    return pairs, problems


def without_table(
    sessions: Sequence[Session], repeats: Repeats = "drop"
) -> tuple[list[tuple[Session, Row]], list[Problem]]:
    """Return sessions with empty rows, and the problems of visits."""
    kept, problems = _visits(sessions, repeats)
    return [(session, Row(session.id)) for session in kept], problems


def _visits(sessions: Sequence[Session], repeats: Repeats) -> tuple[list[Session], list[Problem]]:
    """Return the sessions to use, and problems of visits that are not expected."""
    if repeats not in ("drop", "keep", "fail"):
        raise ValueError(f"`repeats` must be drop, keep or fail, got {repeats!r}")
    first = {s.subject for s in sessions if s.visit == 1}
    kept: list[Session] = []
    problems: list[Problem] = []
    later = [s.id for s in sessions if s.visit > 1 and s.subject in first]
    if later and repeats == "drop":
        sentence = f"{count(len(later), 'repeat scan')} dropped ({some(later)}): pass repeats='keep' to use them"
        problems.append(Problem("visits", sentence, warning=True))
    for session in sessions:
        if session.visit == 1 or (session.subject in first and repeats == "keep"):
            kept.append(session)
        elif session.subject not in first:
            sentence = f"unexpected MR{session.visit}: `{session.subject}` has no MR1"
            problems.append(Problem(session.id, sentence))
        elif repeats == "fail":
            problems.append(Problem(session.id, f"unexpected MR{session.visit}: pass repeats='drop' or 'keep'"))
    return kept, problems


def _is_first(id: str) -> bool:
    return "_MR" not in id or id.endswith("_MR1")


def _row(cells: dict[str, str]) -> Row:
    if not cells["id"]:
        raise ValueError("a row without an id")
    cdr = _number(cells["cdr"], "CDR")
    if not math.isnan(cdr) and cdr not in CDR_LABELS:
        raise ValueError(f"CDR must be one of 0, 0.5, 1, 2, 3 or blank, got {cells['cdr']}")
    return Row(cells["id"], cells["sex"], _number(cells["age"], "Age"), cdr)


def _number(cell: str, name: str) -> float:
    """Return a cell as a number, NaN for a blank."""
    if cell.lower() in ("", "n/a", "na", "nan", "none"):
        return math.nan
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{name} must be a number or blank, got {cell!r}") from None


def _lines(path: Path) -> list[list[str]]:
    """Return the cells of every line that is not blank, the header first."""
    try:
        if path.suffix == ".xlsx":
            from openpyxl import load_workbook

            book = load_workbook(path, read_only=True, data_only=True)
            cells = [["" if c is None else str(c) for c in line] for line in book.active.iter_rows(values_only=True)]
            book.close()
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                cells = list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    except Exception as error:
        raise ValueError(f"`{path.name}` cannot be read as a table: {error}") from error
    lines = [line for line in cells if any(cell.strip() for cell in line)]
    if len(lines) < 2:
        raise ValueError(f"`{path.name}` holds no rows")
    return lines
