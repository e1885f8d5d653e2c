"""A row of a cohort's table: from cells by name to id, sex, age, CDR (clinical dementia rating) and diagnosis.

Nothing unknown becomes a statement: a blank CDR is not 0, a bound of an age ("89+") stays one, and a diagnosis whose
spelling is not known has no label.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

COLUMNS = {  # our name: names in lower case that tables use, the best first
    "id": ("id", "participant_id", "subject_id", "subject"),
    "session": ("session_id", "session"),
    "sex": ("m/f", "sex", "gender"),
    "age": ("age", "age_at_scan", "age_at_session", "age_bl"),  # Clinica writes `age_bl`: at the first visit
    "cdr": ("cdr", "cdr_global"),
    "diagnosis": ("diagnosis", "diagnosis_bl", "dx", "dx_bl", "group"),
}
DESCRIBED = ("sex", "age", "cdr")  # what a table should say of everybody
BLANK = ("", "n/a", "na", "nan", "none")
CDR_LABELS = {0.0: 0, 0.5: 1, 1.0: 2, 2.0: 3, 3.0: 4}
DIAGNOSES = {"cn": 0, "hc": 0, "control": 0, "mci": 1, "emci": 1, "lmci": 1, "ad": 2, "dementia": 2}
NOT_ASSESSED = -1
OLDEST = 130  # years
AGE = re.compile(
    r"(?P<below>>=?|≥|over|above|at least|older than)?\s*(?P<years>\d+(\.\d+)?)\s*(y|yrs?|years?)?"
    r"\s*(?P<above>\+|(or|and) (older|over|above|more))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Row:
    """One row: of a session or, where that has none, of its subject."""

    id: str
    sex: str = ""
    age: float = math.nan  # years, NaN if blank
    at_least: bool = False  # whether `age` is a lower bound, as in de-identified data
    cdr: float = math.nan  # NaN if blank: not assessed
    diagnosis: str = ""  # as the table spells it
    label: int = NOT_ASSESSED  # the class of CDR or diagnosis

    @property
    def age_text(self) -> str:
        """The age for readers: `74`, `89+`, or nothing."""
        return "" if math.isnan(self.age) else f"{self.age:g}{'+' * self.at_least}"


def find_columns(header: Sequence[str]) -> dict[str, int]:
    """Return the position of each of our columns that the header has under one of its names."""
    names = [name.strip().lower() for name in header]
    found = {ours: names.index(n) for ours, theirs in COLUMNS.items() for n in reversed(theirs) if n in names}
    if "id" not in found and "session" in found:
        found["id"] = found.pop("session")
    return found


def parse_row(cells: Mapping[str, str], *, graded: bool = True) -> Row:
    """Return the row of cells by our name; a short line lacks its last ones.

    The label is that of the CDR, or of the diagnosis where the table is not `graded`, which is without any CDR.

    Raises:
        ValueError: without an id, or for an age or CDR that cannot be.
    """
    if not cells.get("id"):
        raise ValueError("a row without an id")
    age, at_least = parse_age(cells.get("age", ""))
    cdr, diagnosis = parse_cdr(cells.get("cdr", "")), cells.get("diagnosis", "")
    label = CDR_LABELS.get(cdr) if graded else DIAGNOSES.get(diagnosis.lower())
    id = "_".join([cells["id"], *([with_prefix(cells["session"])] if cells.get("session") else [])])
    return Row(id, cells.get("sex", ""), age, at_least, cdr, diagnosis, NOT_ASSESSED if label is None else label)


def parse_age(cell: str) -> tuple[float, bool]:
    """Return an age in years and whether it is a lower bound (`89+`, `90 or older`, `> 89`); NaN for a blank."""
    if cell.lower() in BLANK:
        return math.nan, False
    match = AGE.fullmatch(cell)
    if match is None:
        raise ValueError(f"Age must be a number, a lower bound such as 89+, or blank, got {cell[:30]!r}")
    if float(match["years"]) > OLDEST:
        raise ValueError(f"Age must be at most {OLDEST} years, got {cell[:30]!r}")
    return float(match["years"]), bool(match["below"] or match["above"])


def parse_cdr(cell: str) -> float:
    """Return a CDR, NaN for a blank."""
    if cell.lower() in BLANK:
        return math.nan
    try:
        cdr = float(cell)
    except ValueError:
        cdr = math.nan
    if cdr not in CDR_LABELS:
        raise ValueError(f"CDR must be one of 0, 0.5, 1, 2, 3 or blank, got {cell[:30]}")
    return cdr


def with_prefix(session: str) -> str:
    """Return the name of a BIDS session with its prefix: tables leave it out at times."""
    return session if session.startswith("ses-") else f"ses-{session}"


def unknown_diagnoses(rows: Collection[Row]) -> list[str]:
    """Return the diagnoses that are in the rows and have no label."""
    return sorted({row.diagnosis for row in rows if row.diagnosis.lower() not in (*DIAGNOSES, *BLANK)})
