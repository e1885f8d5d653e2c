"""The registry of scores: each takes feature matrices, keyword-only, and returns named numbers."""

import re
from collections.abc import Callable

from geovae.evaluation.frechet import frechet
from geovae.evaluation.kid import kid
from geovae.evaluation.neighbours import neighbours
from geovae.evaluation.prd import prd
from geovae.evaluation.precision_recall import precision_recall

SCORES: dict[str, Callable[..., dict[str, float]]] = {
    "frechet": frechet,
    "kid": kid,
    "prd": prd,
    "precision_recall": precision_recall,
    "neighbours": neighbours,
}


def reported_name(key: str, extractor: str) -> str:
    """Return the name under which the number `key` of a score is reported for the extractor called `extractor`.

    `fid` and `kid` are reserved for Inception's features: any other extractor's name becomes part of the number's.
    """
    fid, kid_name = ("fid", "kid") if extractor == "inception" else (f"fd_{extractor}", f"kid_{extractor}")
    return re.sub(r"(?<![a-z])kid", kid_name, re.sub(r"(?<![a-z])frechet", fid, key))


def headline(extractor: str) -> str:
    """Return the name of the score by which runs are ranked: the Frechet distance of this extractor's features."""
    return reported_name("frechet", extractor)
