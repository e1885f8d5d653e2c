"""Problems of the input: one sentence each, gathered so that the user reads all of them at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

OnError = Literal["fail", "skip"]


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        where: a session id, or a file, or what the sentence is about.
        sentence: what is wrong and what to do.
        warning: whether work goes on regardless of `on_error`.
    """

    where: str
    sentence: str
    warning: bool = False

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.where}: {self.sentence}"


class Unfit(ValueError):
    """A volume with one or several faults; `sentences` holds them one by one."""

    def __init__(self, sentences: Sequence[str]) -> None:
        """Make one message of all sentences."""
        self.sentences = tuple(sentences)
        super().__init__("; ".join(sentences))


class InputProblems(ValueError):
    """All problems of an input; `problems` holds them one by one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Make one message of all problems."""
        self.problems = tuple(problems)
        super().__init__(as_text(problems))


def as_text(problems: Sequence[Problem], limit: int = 100) -> str:
    """Return a report: a count, then one sentence a line with all that it holds for, at most `limit` lines.

    Remarks, which stop nothing, are counted apart from problems.
    """
    places: dict[str, list[str]] = {}
    for problem in problems:
        places.setdefault(problem.sentence, []).append(problem.where)
    lines = [f"- {some(where)}: {sentence}" for sentence, where in places.items()]
    if len(lines) > limit:
        lines = [*lines[:limit], f"- and {len(lines) - limit} more"]
    remarks = sum(problem.warning for problem in problems)
    counted = count(len(problems) - remarks, "problem") + (f" and {count(remarks, 'remark')}" if remarks else "")
    return "\n".join([f"{counted} in the input:", *lines])


def count(n: int, noun: str) -> str:
    """Return `1 volume`, `2 volumes`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def some(names: Iterable[str], limit: int = 5) -> str:
    """Return a few names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
