"""Draw the picture of docs/volume.md, the share of a cluster of codes in the volume: `make pictures-volume`.

For codes with one common covariance the density of Eq. 7 without its floor is `(sum_i w_i)^p`, p = d / 2. For whole
p its integral is a sum over p-tuples of codes, and the expected sum over normal clusters has a closed form.
"""

import math
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

from geovae.neighbours import nearest

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "volume_shares.png"
DIMENSIONS = range(2, 34, 2)
CODES = (100, 1000, 10_000)
CLUSTERS = 10
SCALE = 0.7  # of the median distance between neighbouring codes, as `temperature_scale`


def main() -> None:
    """Write the picture: a cluster with more codes than the others, and one that is tighter, against d and k."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = {"15 % of the codes, spread as the others": (0.15, 1.0), "10 % of the codes, spread 0.8": (0.1, 0.8)}
    for ax, (title, (part, spread)) in zip(figure.subplots(1, 2, sharey=True), panels.items(), strict=True):
        for k in CODES:
            shares = [share(d, k, part, spread) for d in DIMENSIONS]
            ax.plot(DIMENSIONS, shares, marker="o", markersize=3, label=f"k = {k:,}")
        ax.axhline(part, color="black", linestyle="--", linewidth=1, label="share of the codes")
        ax.set(title=title, xlabel="latent dimension d", ylim=(0, 1.03))
    figure.axes[0].set_ylabel("share of the cluster in the volume")
    figure.axes[0].legend()
    figure.savefig(PICTURE, dpi=110)
    sys.stdout.write(f"{PICTURE}\n")


def share(d: int, k: int, part: float, spread: float) -> float:
    """Return the share in the volume of a cluster with `part` of k codes beside nine others of spread 1, far away."""
    of_cluster, of_other = round(part * k), round((1 - part) * k / (CLUSTERS - 1))
    generator = torch.Generator().manual_seed(0)
    codes = [s * torch.randn(n, d, generator=generator) for n, s in [(of_cluster, spread)] + [(of_other, 1.0)] * 9]
    distances = [nearest(c, c, exclude=torch.arange(len(c))).distances for c in codes]
    width = SCALE * float(torch.cat(distances).median())
    logs = [log_expected_mass(of_cluster, d, spread / width), log_expected_mass(of_other, d, 1 / width)]
    return 1 / (1 + (CLUSTERS - 1) * math.exp(logs[1] - logs[0]))


def log_expected_mass(n: int, d: int, spread: float) -> float:
    """Return the log of the expected volume of n codes from N(0, spread^2 I), with that of a lone bump as the unit.

    `spread` is in units of the bumps' width, at which a weight is exp(-1). A tuple with the multiplicities m_j of its
    distinct codes adds E exp(-Q), Q = sum_j m_j |x_j|^2 - |sum_j m_j x_j|^2 / p, a Gaussian integral.
    """
    p, logs = d // 2, []
    for sizes in partitions(p, p):
        if len(sizes) > n:
            continue
        repeats = sum(math.lgamma(m + 1) for m in sizes) + sum(math.lgamma(r + 1) for r in Counter(sizes).values())
        tuples = math.lgamma(p + 1) - repeats + math.lgamma(n + 1) - math.lgamma(n - len(sizes) + 1)
        a = 2 * spread**2
        reduced = 1 - a / p * sum(m * m / (1 + a * m) for m in sizes)
        log_det = sum(math.log1p(a * m) for m in sizes) + math.log(reduced)
        logs.append(tuples - d / 2 * log_det)
    return float(torch.tensor(logs, dtype=torch.float64).logsumexp(0))


def partitions(total: int, largest: int) -> Iterator[list[int]]:
    """Yield the ways to write `total` as a sum of positive integers up to `largest`, in falling order."""
    if total == 0:
        yield []
    for first in range(min(total, largest), 0, -1):
        yield from ([first, *rest] for rest in partitions(total - first, first))


if __name__ == "__main__":
    main()
