"""Scores of samples, the feature extractors beneath them, and `evaluate`, which puts both together.

To add a score: one file with `(*, real, fake) -> dict[str, float]` and one line in `SCORES` (scores.py).
"""

from geovae.evaluation.cache import FeatureCache, content_hash
from geovae.evaluation.evaluate import default_extractors, evaluate
from geovae.evaluation.features import EXTRACTORS, choose_extractor, extract, extractor
from geovae.evaluation.folders import read_images
from geovae.evaluation.frechet import frechet, frechet_distance
from geovae.evaluation.inception import checked_weights, inception_weights_path
from geovae.evaluation.kid import kid
from geovae.evaluation.neighbours import memorisation, nearest, neighbours
from geovae.evaluation.prd import PrdCurve, prd, prd_curve
from geovae.evaluation.precision_recall import precision_recall
from geovae.evaluation.report import Report, differences, rank
from geovae.evaluation.scores import SCORES, headline
from geovae.evaluation.spread import half_sample_spread, per_class
from geovae.evaluation.statistics import Statistics, read_statistics, statistics, write_statistics

__all__ = [
    "EXTRACTORS",
    "SCORES",
    "FeatureCache",
    "PrdCurve",
    "Report",
    "Statistics",
    "checked_weights",
    "choose_extractor",
    "content_hash",
    "default_extractors",
    "differences",
    "evaluate",
    "extract",
    "extractor",
    "frechet",
    "frechet_distance",
    "half_sample_spread",
    "headline",
    "inception_weights_path",
    "kid",
    "memorisation",
    "nearest",
    "neighbours",
    "per_class",
    "prd",
    "prd_curve",
    "precision_recall",
    "rank",
    "read_images",
    "read_statistics",
    "statistics",
    "write_statistics",
]
