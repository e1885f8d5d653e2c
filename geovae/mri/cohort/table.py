"""The table of a cohort (csv, tsv, xlsx) and its join with the sessions; whatever has no partner is reported.

OASIS-1: `ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay`. CDR (clinical dementia rating) is blank for 201
sessions, mostly of young subjects: not assessed, never 0. Age is a confound of CDR, so it is kept beside it. BIDS has
`participants.tsv`, and beside it `sub-01/sub-01_sessions.tsv` with what changes from visit to visit.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from geovae.checks import check_choice
from geovae.images import walk_files
from geovae.mri.cohort.discover import Session
from geovae.mri.cohort.lines import read_lines
from geovae.mri.cohort.rows import (
    BLANK,
    COLUMNS,
    DESCRIBED,
    DIAGNOSES,
    Row,
    find_columns,
    parse_row,
    unknown_diagnoses,
)
from geovae.mri.problems import Problem, plural, shorten

Repeats = Literal["drop", "keep", "fail"]
PATTERNS = ("oasis_cross-sectional*.csv", "oasis_cross-sectional*.xlsx", "participants.tsv")

Cells = dict[str, str]  # the cells of a line by our names of columns
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


def read_table(path: str | Path, *, required: Sequence[str] = DESCRIBED) -> tuple[list[Row], list[Problem]]:
    """Return the sound rows of a csv, tsv or xlsx file, and its problems; the columns `required` must exist.

    Where a BIDS `participants.tsv` has `sub-*/sub-*_sessions.tsv` beside it, each of their lines becomes a row too.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as a table.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table `{path}`: pass the path of a csv, tsv or xlsx file, or None")
    header, lines = _read_cells(path)
    columns = set(find_columns(header))
    if path.name == "participants.tsv":
        visits, more = _read_visits(path.parent, {cells.get("id", ""): cells for cells in lines})
        header, columns, lines = [*header, *more], columns | set(find_columns(more)), [*lines, *visits]
    missing = [COLUMNS[name][0] for name in ("id", *required) if name not in columns]
    if missing:
        return [], [Problem(path.name, f"missing column {', '.join(missing)}; it has {', '.join(header)}")]
    rows, problems = _parse_rows(lines, path.name, graded="cdr" in columns)
    twice = [id for id, n in Counter(row.id for row in rows).items() if n > 1]
    problems += [Problem(id, f"duplicate id in `{path.name}`: keep one of its rows") for id in twice]
    unknown = [COLUMNS[name][0] for name in DESCRIBED if name not in columns]
    remarks = [f"no column {', '.join(unknown)}: left unknown; it has {', '.join(header)}"] if unknown else []
    if "cdr" not in columns:
        remarks += _labels_of_diagnoses(rows, "diagnosis" in columns)
    problems += [Problem(path.name, remark, warning=True) for remark in remarks]
    return [row for row in rows if row.id not in twice], problems


def _labels_of_diagnoses(rows: Sequence[Row], has_column: bool) -> list[str]:
    """Return what the labels are of a table without any CDR."""
    if not has_column:
        return ["nothing to label by: every label is -1, unknown"]
    known = ", ".join(f"{name} {label}" for name, label in DIAGNOSES.items())
    remarks = [f"no CDR: the labels are of the diagnosis, {known}"]
    if others := unknown_diagnoses(rows):
        remarks.append(f"diagnoses without a label, which is then -1: {shorten(others)}")
    return remarks


def _parse_rows(lines: Sequence[Cells], name: str, *, graded: bool) -> tuple[list[Row], list[Problem]]:
    rows, problems = [], []
    for cells in lines:
        try:
            rows.append(parse_row(cells, graded=graded))
        except ValueError as error:
            problems.append(Problem(cells.get("id") or name, str(error)))
    return rows, problems


def join(
    sessions: Sequence[Session], rows: Sequence[Row], repeats: Repeats = "drop", *, refused: Collection[str] = ()
) -> tuple[list[Pair], list[Problem]]:
    """Return sessions with their rows (by session, or by subject), and problems: what has no partner.

    Later visits of a subject (MR2) are dropped, kept or, with `fail`, a problem; one without the first always is. Of a
    session or row that was `refused`, by id, its own problem is enough.
    """
    used, problems = _visits(sessions, repeats)
    by_id = {row.id: row for row in rows}
    visits: dict[str, list[Row]] = defaultdict(list)  # the rows of visits by subject
    for row_of_visit in (row for row in rows if "_ses-" in row.id):
        visits[row_of_visit.id.partition("_ses-")[0]].append(row_of_visit)
    pairs = []
    for session in used:
        row, sentence = _find_row(session, by_id, visits.get(session.subject, []))
        if row is not None:
            pairs.append((session, row))
        if sentence and (row is not None or not set(_names(session)) & set(refused)):
            problems.append(Problem(session.id, sentence, warning=row is not None))
    known = {name for s in sessions for name in _names(s)}
    expected = {row.id for row in rows if repeats == "keep" or "_MR" not in row.id or row.id.endswith("_MR1")}
    # a BIDS table lists visits without a scan too: its subjects count
    known |= {name for id in refused for name in (id, id.rpartition("_MR")[0])}
    unused = sorted({id.partition("_ses-")[0] for id in expected - known} - known)
    if unused:
        what = f"{plural(len(unused), 'row')} without a volume ({shorten(unused)}): is a disc missing?"
        problems.append(Problem("table", what))
    return pairs, problems


def _find_row(session: Session, by_id: Mapping[str, Row], visits: Sequence[Row]) -> tuple[Row | None, str]:
    """Return the row of a session and what is to be said; `visits` are the rows of its subject's visits."""
    if not session.label and len(visits) == 1:  # a scan that names no session is that of the only visit
        return visits[0], ""
    names = _names(session)
    row = next((by_id[name] for name in names if name in by_id), None)
    if row is None:
        return None, "a volume without a row in the table: add the row, or remove the volume"
    if row.id in names[-2:] and (session.visit > 1 or visits):
        sentence = "the table has no row of this visit, only of the subject: age, CDR and diagnosis are unknown"
        return Row(row.id, row.sex), sentence
    return row, ""


def _names(session: Session) -> list[str]:
    """Return the ids that a row of a session may have: of the session, then of the subject."""
    subject = session.subject
    visit = [f"{subject}_{session.label}"] if session.label else []
    return [session.id, *visit, subject, subject.removeprefix("sub-")]


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


def _read_cells(path: Path) -> tuple[list[str], list[Cells]]:
    """Return the header of a table and its lines by our names of columns."""
    header, *lines = read_lines(path)
    columns = find_columns(header)
    return header, [{name: line[i].strip() for name, i in columns.items() if i < len(line)} for line in lines]


def _read_visits(folder: Path, participants: Mapping[str, Cells]) -> tuple[list[Cells], list[str]]:
    """Return the lines of all `sub-*/sub-*_sessions.tsv` below a BIDS folder, with their subjects, and their columns.

    The first visit has what the participants' table says of its subject, later ones only the sex.
    """
    visits: list[Cells] = []
    columns: list[str] = []
    for path in sorted(folder.glob("sub-*/sub-*_sessions.tsv")):
        header, lines = _read_cells(path)
        columns += [name for name in header if name not in columns]
        subject = path.parent.name
        of_subject = participants.get(subject, participants.get(subject.removeprefix("sub-"), {}))
        for i, cells in enumerate(sorted(lines, key=lambda cells: cells.get("session", cells.get("id", "")))):
            stated = {name: cell for name, cell in cells.items() if cell.lower() not in BLANK}
            session = stated.get("session", stated.get("id", ""))
            inherited = {name: cell for name, cell in of_subject.items() if i == 0 or name == "sex"}
            visits.append({**inherited, **stated, "id": subject, "session": session})
    return visits, columns
