"""What `LatentMetric` asks of its arguments, checked once, when it is built."""

import math

import torch
from torch import Tensor

from geovae.checks import check_count, check_finite, check_not_negative, check_positive

# Weights below exp(-CUT) count as zero: exp never produces a denormal number, which is 10 to 100 times slower.
CUT = {torch.float32: 60.0, torch.float64: 600.0}


def check_tensors(centroids: Tensor, values: Tensor) -> None:
    """Raise unless centroids (k, d) and values (k, d) or (k, d, d) are finite, of one type and positive."""
    if centroids.ndim != 2 or 0 in centroids.shape:
        raise ValueError(f"`centroids` must be a non-empty (k, d) tensor, got shape {tuple(centroids.shape)}")
    k, d = centroids.shape
    if tuple(values.shape) not in ((k, d), (k, d, d)):
        raise ValueError(
            f"`values` must have shape ({k}, {d}) or ({k}, {d}, {d}) like `centroids`, got {tuple(values.shape)}"
        )
    if centroids.dtype not in CUT or values.dtype != centroids.dtype or values.device != centroids.device:
        raise ValueError(
            "`centroids` and `values` must both be float32 or both float64, on one device, "
            f"got {centroids.dtype} on {centroids.device} and {values.dtype} on {values.device}"
        )
    check_finite(centroids=centroids)
    if not torch.isfinite(values).all():
        raise ValueError("`values` must be finite, got NaN or infinity (a variance of 0?)")
    if values.ndim == 2 and not (values >= 0).all():
        raise ValueError(f"`values` must not be negative, got {float(values.min()):g}")
    if values.ndim == 3:
        _check_symmetric_positive(values)


def _check_symmetric_positive(values: Tensor) -> None:
    tolerance = 1e-4 * float(values.abs().max())
    if float((values - values.mT).abs().max()) > tolerance:
        raise ValueError("`values` (k, d, d) must be symmetric matrices")
    lowest = float(torch.linalg.eigvalsh(values).min())
    if lowest < -tolerance:
        raise ValueError(f"`values` (k, d, d) must be positive semi-definite, got an eigenvalue of {lowest:g}")


def check_numbers(
    temperature: float, floor: float, decay: float, chunk_elements: int | None, dtype: torch.dtype
) -> None:
    """Raise unless every number is in its range for the type."""
    check_positive(temperature=temperature, floor=floor)
    check_not_negative(decay=decay)
    if floor < math.exp(-CUT[dtype]):
        raise ValueError(f"`floor` must be at least {math.exp(-CUT[dtype]):.1g} in {dtype}, got {floor:g}")
    if chunk_elements is not None:
        check_count(chunk_elements=chunk_elements)
