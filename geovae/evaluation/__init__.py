"""Scores of samples, the feature extractors beneath them, and `evaluate`, which puts both together.

To add a score: one file with `(*, real, fake) -> dict[str, float]` and one line in `SCORES`.
"""

from collections.abc import Callable

from geovae.evaluation.cache import FeatureCache, content_hash
from geovae.evaluation.features import EXTRACTORS, extract, extractor
from geovae.evaluation.frechet import frechet, frechet_distance
from geovae.evaluation.inception import inception_weights_path
from geovae.evaluation.kid import kid
from geovae.evaluation.neighbours import memorisation, nearest, neighbours
from geovae.evaluation.prd import PrdCurve, prd, prd_curve
from geovae.evaluation.precision_recall import precision_recall
from geovae.evaluation.statistics import Statistics, read_statistics, statistics, write_statistics

SCORES: dict[str, Callable[..., dict[str, float]]] = {
    "frechet": frechet,
    "kid": kid,
    "prd": prd,
    "precision_recall": precision_recall,
    "neighbours": neighbours,
}

__all__ = [
    "EXTRACTORS",
    "SCORES",
    "FeatureCache",
    "PrdCurve",
    "Statistics",
    "content_hash",
    "extract",
    "extractor",
    "frechet",
    "frechet_distance",
    "inception_weights_path",
    "kid",
    "memorisation",
    "nearest",
    "neighbours",
    "prd",
    "prd_curve",
    "precision_recall",
    "read_statistics",
    "statistics",
    "write_statistics",
]
