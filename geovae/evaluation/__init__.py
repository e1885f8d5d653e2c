"""Scores of samples, the feature extractors beneath them, and `evaluate`, which puts both together.

To add a score: one file with a decorated function, and one line in `SCORES` (scores.py).
"""

from geovae.evaluation.evaluate import evaluate
from geovae.evaluation.extractors import EXTRACTORS, FeatureCache, choose_extractor, content_hash, extract, extractor
from geovae.evaluation.frechet import (
    Statistics,
    frechet,
    frechet_distance,
    read_statistics,
    statistics,
    write_statistics,
)
from geovae.evaluation.inception import checked_weights, inception_weights_path
from geovae.evaluation.kid import kid
from geovae.evaluation.neighbour_scores import memorisation, neighbours, precision_recall
from geovae.evaluation.prd import PrdCurve, prd, prd_curve
from geovae.evaluation.report import ImageSets, Latents, Report, differences
from geovae.evaluation.score import Number, Score, half_sample_spread, per_class, score
from geovae.evaluation.scores import (
    LEAST_NOVELTY,
    SCORES,
    Scorer,
    better,
    copies,
    headline,
    is_biased,
    is_weak,
    least_rows,
    recorded_numbers,
)
from geovae.evaluation.trained import is_trained_name, trained_classifier, trained_name
from geovae.images.pictures import read_images

__all__ = [
    "EXTRACTORS",
    "LEAST_NOVELTY",
    "SCORES",
    "FeatureCache",
    "ImageSets",
    "Latents",
    "Number",
    "PrdCurve",
    "Report",
    "Score",
    "Scorer",
    "Statistics",
    "better",
    "checked_weights",
    "choose_extractor",
    "content_hash",
    "copies",
    "differences",
    "evaluate",
    "extract",
    "extractor",
    "frechet",
    "frechet_distance",
    "half_sample_spread",
    "headline",
    "inception_weights_path",
    "is_biased",
    "is_trained_name",
    "is_weak",
    "kid",
    "least_rows",
    "memorisation",
    "neighbours",
    "per_class",
    "prd",
    "prd_curve",
    "precision_recall",
    "read_images",
    "read_statistics",
    "recorded_numbers",
    "score",
    "statistics",
    "trained_classifier",
    "trained_name",
    "write_statistics",
]
