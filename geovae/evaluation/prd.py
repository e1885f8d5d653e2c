"""Precision and recall of distributions, PRD (Sajjadi et al. 2018, arXiv 1806.00035).

Both sets are clustered together; P (real) and Q (fake) are their histograms over the clusters. For every slope
lambda, alpha(lambda) = sum_i min(lambda P_i, Q_i) is precision and beta(lambda) = alpha(lambda) / lambda recall. The
pair reported is the maximum over the curve of F_8 (recall-like) and of F_1/8 (precision-like).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geovae.evaluation.kmeans import mini_batch_kmeans
from geovae.evaluation.matrices import Matrix, centre, check_pair


class PrdCurve(NamedTuple):
    """`precision` and `recall` (angles,) from the steepest to the flattest trade: numpy arrays in [0, 1]."""

    precision: np.ndarray
    recall: np.ndarray


def prd(*, real: Matrix, fake: Matrix, clusters: int = 20, runs: int = 10, seed: int = 0) -> dict[str, float]:
    """Return {"prd_f8", "prd_f1_8"} of `real` and `fake`, both (n, dims) with the same n.

    prd_f8 falls when modes of `real` are missing from `fake`, prd_f1_8 when `fake` holds what `real` does not.
    """
    curve = prd_curve(real=real, fake=fake, clusters=clusters, runs=runs, seed=seed)
    return {"prd_f8": f_beta(curve, 8.0), "prd_f1_8": f_beta(curve, 1 / 8)}


def prd_curve(
    *, real: Matrix, fake: Matrix, clusters: int = 20, runs: int = 10, angles: int = 1001, seed: int = 0
) -> PrdCurve:
    """Return the curve averaged over `runs` clusterings, as the authors do."""
    real, fake = check_pair(real, fake)
    if len(real) != len(fake):
        raise ValueError(
            f"PRD needs equally many rows, got {len(real)} real and {len(fake)} fake; "
            "draw a subset of the larger set (`subsample`)"
        )
    for name, value, least in (("clusters", clusters, 2), ("runs", runs, 1), ("angles", angles, 3)):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}")
    if 2 * len(real) < clusters:
        raise ValueError(f"{clusters} `clusters` need as many rows, got {2 * len(real)} in both sets; ask for fewer")
    generator = torch.Generator().manual_seed(seed)
    points = torch.cat(centre(real, fake))
    curves = []
    for _ in range(runs):
        labels = mini_batch_kmeans(points, clusters, generator).cpu()
        p, q = (torch.bincount(part, minlength=clusters).double() / len(part) for part in labels.split(len(real)))
        curves.append(curve_of_histograms(real=p, fake=q, angles=angles))
    return PrdCurve(*(np.mean(values, axis=0) for values in zip(*curves, strict=True)))


def curve_of_histograms(*, real: Tensor, fake: Tensor, angles: int = 1001) -> PrdCurve:
    """Return the curve of two histograms (bins,) that each sum to 1, at slopes tan(angle), evenly spaced angles."""
    slopes = torch.linspace(1e-10, math.pi / 2 - 1e-10, angles, dtype=torch.float64).tan()
    precision = torch.minimum(slopes[:, None] * real.double(), fake.double()).sum(dim=1)
    recall = precision / slopes
    return PrdCurve(precision.clamp(0, 1).numpy(), recall.clamp(0, 1).numpy())


def f_beta(curve: PrdCurve, beta: float) -> float:
    """Return the maximum over the curve of F_beta = (1 + beta^2) p r / (beta^2 p + r)."""
    if not beta > 0:
        raise ValueError(f"`beta` must be positive, got {beta}")
    weighted = beta**2 * curve.precision + curve.recall
    return float(np.max((1 + beta**2) * curve.precision * curve.recall / np.maximum(weighted, 1e-300)))
