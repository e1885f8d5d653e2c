"""How far samples lie from the codes that a sampler was fitted on, beside how far the codes lie from each other.

A sampler that hands back its training codes with a little noise has superb scores and a ratio near 0; fresh draws from
the codes' own distribution have a ratio near 1.
"""

import torch
from torch import Tensor

ROWS = 2000  # codes whose own distance is measured; a median needs no more


class Novelty:
    """Nearest-code distances (Euclidean) relative to those of left-out codes.

    Args:
        mu: the codes (n, d) a sampler is fitted on.
        held_out: other codes (m, d) to compare with; without them each of up to 2,000 codes is left out in turn.
    """

    def __init__(self, mu: Tensor, held_out: Tensor | None = None) -> None:
        """Measure the reference distance once."""
        self.centre = mu.detach().mean(0)  # far from the origin float32 distances lose their digits
        self.mu = mu.detach() - self.centre
        if held_out is None:
            step = max(len(mu) // ROWS, 1)
            held_out, leave_out = mu.detach()[::step], True
        else:
            leave_out = False
        distances = nearest(held_out - self.centre, self.mu, second=leave_out)
        self.reference = float(distances.median()) if len(mu) > 1 or not leave_out else float("nan")

    def scalars(self, z: Tensor) -> dict[str, float]:
        """Return the median distance of z (n, d) to its nearest code, and its ratio to the left-out codes' own."""
        distance = float(nearest(z - self.centre, self.mu).median())
        numbers = {"nearest_code": distance}
        if self.reference > 0:
            numbers["nearest_code_ratio"] = distance / self.reference
        return numbers


def nearest(z: Tensor, mu: Tensor, *, second: bool = False, elements: int = 2**22) -> Tensor:
    """Return the distance (n,) of z (n, d) to the nearest of mu (m, d), or to the second nearest."""
    rank = min(2 if second else 1, len(mu))
    blocks = z.split(max(elements // len(mu), 1))
    return torch.cat([torch.cdist(b, mu).topk(rank, largest=False).values[:, -1] for b in blocks])
