"""Choosing where draws come from, evenly: fewer chance differences between the parts of a batch."""

import torch
from torch import Generator, Tensor


def choose_evenly(weights: Tensor, n: int, generator: Generator) -> Tensor:
    """Return n indices (n,) in ascending order, each with probability `weights` (k,), by systematic resampling.

    One random offset places n even steps on the cumulative weights (Kitagawa 1996): index i comes floor(n w_i) or
    ceil(n w_i) times, and so does every run of neighbouring indices, such as the components of one class. Independent
    choices would differ from their shares by sqrt(n w_i), which a Frechet distance of a thousand images sees.
    """
    offset = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64)
    steps = (torch.arange(n, device=generator.device) + offset) / n
    edges = (weights.double() / weights.sum()).cumsum(0)
    return torch.searchsorted(edges, steps, right=True).clamp_(max=len(weights) - 1)
