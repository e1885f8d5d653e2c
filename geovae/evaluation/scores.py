"""The registry of scores, and the names and meanings of all numbers that an evaluation records.

To add a score: one file with a function that `score` decorates (see score.py), and one line in `SCORES`.
"""

import re

from geovae.evaluation.frechet import frechet
from geovae.evaluation.kid import kid
from geovae.evaluation.neighbour_scores import MEMORISATION, neighbours, precision_recall
from geovae.evaluation.prd import prd
from geovae.evaluation.score import Number, Score

SCORES: dict[str, Score] = {
    "frechet": frechet,
    "kid": kid,
    "prd": prd,
    "precision_recall": precision_recall,
    "neighbours": neighbours,
}


def headline(extractor: str) -> str:
    """Return the name of the score by which runs are ranked: the Frechet distance of this extractor's features.

    `fid` and `kid` are reserved for Inception's features: with another extractor, its name is part of the number's.
    """
    return frechet.numbers["frechet"].recorded_name("frechet", extractor)


def recorded_numbers() -> dict[str, Number]:
    """Return every number that an evaluation records by its name; `<extractor>` and `<space>` stand for any word."""
    found: dict[str, Number] = {}
    for score in SCORES.values():
        for key, number in score.numbers.items():
            found |= {number.recorded_name(key, extractor): number for extractor in ("inception", "<extractor>")}
    return found | MEMORISATION | {"n": Number("samples scored, and real images they were scored against", "count")}


def better(name: str) -> str:
    """Return `lower` or `higher`, or an empty string where a recorded metric such as `score/n` does not judge."""
    name = name.rpartition("/")[2]
    patterns = {re.sub(r"<\w+>", r"[\\w.-]+?", re.escape(key)): number for key, number in recorded_numbers().items()}
    # several match `kid_pixels_stderr`: the longest is the most specific
    matching = [pattern for pattern in patterns if re.fullmatch(pattern, name)]
    return patterns[max(matching, key=len)].better if matching else ""
