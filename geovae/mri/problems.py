"""Problems of the input: one sentence each, collected, so that the user reads all of them at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from geovae.checks import ListedProblems, check_choice

OnError = Literal["fail", "skip"]


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong."""

    where: str  # a session id, or a file, or the subject of the sentence
    sentence: str  # what is wrong and what to do
    warning: bool = False  # whether the preparation continues whatever `on_error` is

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.where}: {self.sentence}"


class Unfit(ValueError):
    """A volume with one or several faults; `sentences` holds them one by one."""

    def __init__(self, sentences: Sequence[str]) -> None:
        """Make one message of all sentences."""
        self.sentences = tuple(sentences)
        super().__init__("; ".join(sentences))


class InputProblems(ListedProblems):
    """All problems of an input; `problems` holds them one by one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Make one message of all problems."""
        self.problems = tuple(problems)
        super().__init__(as_text(problems))


def raise_if(sentences: Sequence[str]) -> None:
    """Raise Unfit, a ValueError, with all sentences, if there are any."""
    if sentences:
        raise Unfit(sentences)


def check_choices(options: object) -> None:
    """Raise ValueError for a field of a dataclass whose value is none of its `Literal` type."""
    for name, kind in get_type_hints(type(options)).items():
        if get_origin(kind) is Literal:
            check_choice(name, getattr(options, name), get_args(kind))


def as_text(problems: Sequence[Problem], limit: int = 100) -> str:
    """Return a report: a count, then one line for each sentence with all its places, at most `limit` lines.

    Warnings are counted separately, as remarks.
    """
    # One fault often affects every file of a cohort: grouped by sentence, 400 lines become one.
    places: dict[str, list[str]] = {}
    for problem in problems:
        places.setdefault(problem.sentence, []).append(problem.where)
    lines = [f"- {shorten(where)}: {sentence}" for sentence, where in places.items()]
    if len(lines) > limit:
        lines = [*lines[:limit], f"- and {len(lines) - limit} more"]
    remarks = sum(problem.warning for problem in problems)
    total = plural(len(problems) - remarks, "problem") + (f" and {plural(remarks, 'remark')}" if remarks else "")
    return "\n".join([f"{total} in the input:", *lines])


def plural(n: int, noun: str) -> str:
    """Return `1 volume`, `2 volumes`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def shorten(names: Iterable[str], limit: int = 5) -> str:
    """Return the first names, and the number of those left out."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
