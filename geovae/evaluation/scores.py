"""The registry of scores, and the names and meanings of all numbers that an evaluation records.

To add a score: one file with a function that `score` decorates (see score.py), and one line in `SCORES`.
"""

import math
import re
from collections.abc import Mapping

from geovae.evaluation.class_shares import CLASS_SHARES
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
LEAST_NOVELTY = 0.95  # a sampler whose `code_novelty` is below copies: it never leads a table
WEAK = ("random-conv-v1", "pixels")  # extractors that see noise and blur, and cannot rank samplers of real data
OTHERS = {
    "code_novelty": Number(
        "median distance of the latents to the nearest training code, over that of held-out codes: 1 is as new as real "
        "data, below .95 the sampler copies"
    ),
    "decoded_ratio": Number(
        "Frechet distance over that of decoded held-out codes at one n: 1 is a perfect sampler for this decoder",
        "-",
        "lower",
        equal=1.0,
    ),
    "n": Number("samples scored", "count"),
    "reference_n": Number("real images that they were scored against", "count"),
    "n_features": Number(
        "features of the extractor: with fewer samples or real images the distance is biased", "count"
    ),
}


def headline(extractor: str) -> str:
    """Return the name of the score by which runs are ranked: the Frechet distance of this extractor's features.

    `fid` and `kid` are reserved for Inception's features: with another extractor, its name is part of the number's.

    Raises:
        ValueError: for `auto`, which only the data set decides.
    """
    if extractor == "auto":
        raise ValueError("`extractor` auto needs the data set, which is not found here: give the extractor's name")
    return frechet.numbers["frechet"].recorded_name("frechet", extractor)


def recorded_numbers() -> dict[str, Number]:
    """Return every number that an evaluation records by its name; `<extractor>` and `<space>` stand for any word."""
    found: dict[str, Number] = {}
    for score in SCORES.values():
        for key, number in score.numbers.items():
            found |= {number.recorded_name(key, extractor): number for extractor in ("inception", "<extractor>")}
    return found | CLASS_SHARES | MEMORISATION | OTHERS


def is_weak(name: str) -> bool:
    """Return whether an extractor, or the headline score of one, cannot rank samplers of real data."""
    return name.removeprefix("fd_") in WEAK


def is_biased(values: Mapping[str, float]) -> bool:
    """Return whether the Frechet distance among the numbers of an evaluation is from fewer rows than features."""
    n = min(values.get("n", math.inf), values.get("reference_n", math.inf))
    return n < values.get("n_features", 0.0)


def copies(values: Mapping[str, float]) -> bool:
    """Return whether the samples of an evaluation stay nearer to the training codes than new data would."""
    return values.get("code_novelty", math.inf) < LEAST_NOVELTY


def better(name: str) -> str:
    """Return `lower` or `higher`, or an empty string where a recorded metric such as `score/n` does not judge."""
    name = name.rpartition("/")[2]
    patterns = {re.sub(r"<\w+>", r"[\\w.-]+?", re.escape(key)): number for key, number in recorded_numbers().items()}
    # several match `kid_pixels_stderr`: the longest is the most specific
    matching = [pattern for pattern in patterns if re.fullmatch(pattern, name)]
    return patterns[max(matching, key=len)].better if matching else ""
