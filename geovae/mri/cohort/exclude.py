"""Sessions and subjects that somebody decided to leave out, with the reasons: a csv or tsv with `id` and `reason`."""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from geovae.mri.cohort.discover import Session
from geovae.mri.problems import Problem

Exclusions = dict[str, str]  # id of a session or subject: reason


def read_exclusions(path: str | Path) -> Exclusions:
    """Return the reasons of a file by id.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file without the two columns, a line without a reason, or an id that stands twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file `{path}`: `exclude` is a csv or tsv with the columns id and reason")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        head = list(reader.fieldnames or [])
        if not {"id", "reason"} <= set(head):
            raise ValueError(f"`{path.name}` must have the columns id and reason, it has {', '.join(head) or 'none'}")
        lines = [((line["id"] or "").strip(), (line["reason"] or "").strip()) for line in reader]
    found: Exclusions = {}
    for id, reason in lines:
        if not id or not reason:
            raise ValueError(f"`{path.name}`: every line must have an id and a reason, got {id!r} and {reason!r}")
        if id in found:
            raise ValueError(f"`{path.name}` holds {id!r} twice: keep one of the lines")
        found[id] = reason
    return found


def names_of(session: Session) -> tuple[str, ...]:
    """Return the ids by which a list may name a session: its own, its subject's, and that of BIDS."""
    return (session.id, session.subject, f"{session.subject}_{session.label}")


def subject_of(id: str) -> str:
    """Return the subject of a session's id: the part before `_MR1`, or `_ses-M000`."""
    return re.split(r"_MR\d|_ses-", id, maxsplit=1)[0]


def reason_for(ids: Iterable[str], exclusions: Exclusions) -> str:
    """Return why a session is left out that is known by any of `ids`; empty if it is not."""
    return next((exclusions[id] for id in ids if id in exclusions), "")


def check_exclusions(exclusions: Exclusions, known: Iterable[str]) -> list[Problem]:
    """Return a problem for each excluded id that is neither a session nor a subject: a misspelt one would stay in."""
    ids = set(known)
    sentence = "`exclude` names it, but no session or subject has this id: correct or remove the line"
    return [Problem(id, sentence) for id in exclusions if id not in ids]


def without_excluded(problems: Sequence[Problem], exclusions: Exclusions) -> list[Problem]:
    """Return the problems but for those of excluded sessions."""
    return [p for p in problems if not reason_for((p.where, subject_of(p.where)), exclusions)]
