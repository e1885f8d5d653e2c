"""Kernel Inception distance (Binkowski et al. 2018, arXiv 1801.01401): unbiased MMD^2, k(x, y) = (x.y / dims + 1)^3.

The value is the full U-statistic of both sets. The standard error is a delete-a-group jackknife: it needs
only sums of the kernel over pairs of groups, so it costs nothing beside the kernel itself.
"""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from geovae.evaluation.score import Number, Numbers, score
from geovae.neighbours import blocks

KEPT = 32  # reference sets whose sums are kept, 20 x 20 numbers each: validation and test images, and halves of them
_SUMS: dict[str, Tensor] = {}


@score(
    {
        "kid": Number("kernel distance of the features, unbiased in n", "-", "lower", names=("kid", "kid_{}")),
        "kid_stderr": Number(
            "standard error of the kernel distance", noise=math.inf, names=("kid_stderr", "kid_{}_stderr")
        ),
    },
    any_n=True,
)
def kid(*, real: Tensor, fake: Tensor, groups: int = 20, seed: int = 0) -> Numbers:
    """Return {"kid", "kid_stderr"} of `real` (n, dims) and `fake` (m, dims), at least 2 rows each.

    The rows are dealt at random (`seed`) into `groups` groups for the standard error; sets of fewer than 4 rows
    have none (NaN). An unbiased estimate can be slightly negative.
    """
    groups = min(groups, len(real) // 2, len(fake) // 2)
    x, size_x = _deal(real, groups, seed)
    y, size_y = _deal(fake, groups, seed + 1)
    sums = _reference_sums(x, size_x), _group_sums(y, y, size_y, size_y), _group_sums(x, y, size_x, size_y)
    sizes = size_x.double(), size_y.double()
    everything = torch.ones(groups, dtype=torch.float64)
    value = _mmd(*sums, *sizes, everything)
    if groups < 2:
        return {"kid": value, "kid_stderr": float("nan")}
    without = torch.tensor([_mmd(*sums, *sizes, everything - row) for row in torch.eye(groups, dtype=torch.float64)])
    variance = (groups - 1) / groups * (without - without.mean()).square().sum()
    return {"kid": value, "kid_stderr": float(variance.sqrt())}


def _deal(features: Tensor, groups: int, seed: int) -> tuple[Tensor, Tensor]:
    """Shuffle the rows and return them, grouped, with the size of each group (groups,)."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(features)))
    sizes = torch.tensor([len(part) for part in np.array_split(np.arange(len(features)), groups)])
    return features[order.to(features.device)], sizes


def _reference_sums(x: Tensor, size_x: Tensor) -> Tensor:
    """Return the sums of the real features among themselves: most of the work, and the same for every sampler."""
    key = f"{hashlib.sha256(x.cpu().contiguous().numpy().tobytes()).hexdigest()} {size_x.tolist()}"
    if key not in _SUMS:
        while len(_SUMS) >= KEPT:
            del _SUMS[next(iter(_SUMS))]
        _SUMS[key] = _group_sums(x, x, size_x, size_x)
    return _SUMS[key]


def _group_sums(a: Tensor, b: Tensor, size_a: Tensor, size_b: Tensor) -> Tensor:
    """Return the sums of k over every pair of groups (groups, groups), float64; where `a` is `b` without k(x, x)."""
    sums = torch.zeros(len(size_a), len(size_b), dtype=torch.float64)
    label_a = torch.repeat_interleave(torch.arange(len(size_a)), size_a).to(a.device)
    label_b = torch.repeat_interleave(torch.arange(len(size_b)), size_b).to(a.device)
    hot_a = torch.nn.functional.one_hot(label_a, len(size_a)).double()
    hot_b = torch.nn.functional.one_hot(label_b, len(size_b)).double()
    # sums of groups are enough for every leave-one-group-out value: the kernel is never held as a whole
    for i in blocks(len(a)):
        for j in blocks(len(b)):
            if a is b and j.start < i.start:  # the kernel is symmetric
                continue
            kernel = _kernel(a[i], b[j])
            if a is b and i == j:
                kernel.fill_diagonal_(0.0)
            part = hot_a[i].T @ kernel.double() @ hot_b[j]
            sums += (part + part.T if a is b and i != j else part).cpu()
    return sums


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    kernel = (a @ b.T).div_(a.shape[1]).add_(1.0)
    return kernel.square().mul_(kernel)


def _mmd(xx: Tensor, yy: Tensor, xy: Tensor, size_x: Tensor, size_y: Tensor, kept: Tensor) -> float:
    """Return MMD^2 of the groups `kept` (a 0/1 vector), from the sums over pairs of groups."""
    n, m = kept @ size_x, kept @ size_y
    within = kept @ xx @ kept / (n * (n - 1)) + kept @ yy @ kept / (m * (m - 1))
    return float(within - 2 * kept @ xy @ kept / (n * m))
