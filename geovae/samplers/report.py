"""What `sample(..., return_info=True)` hands back beside the samples, and the warnings that go with it."""

import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from geovae.geometry.metric import LatentMetric
from geovae.geometry.temperature import fraction_above_floor
from geovae.samplers.chains import Trace
from geovae.samplers.diagnostics import e_bfmi, ess_bulk, ess_tail, nested_r_hat, r_hat
from geovae.samplers.novelty import Novelty

LOWEST_COVERAGE = 0.5
LEAST_MOVE = 0.05


@dataclass(frozen=True)
class SampleInfo:
    """Diagnostics of one call of `sample`.

    `numbers` go to a tracker as they are; `chains` keeps (n,) tensors for whoever looks closer: for HMC `acceptance`,
    `diverged`, `moved` and `log_density`.
    """

    numbers: dict[str, float]
    chains: dict[str, Tensor] = field(default_factory=dict)

    def scalars(self) -> dict[str, float]:
        """Return a flat dict of floats for logging."""
        return dict(self.numbers)


def movement(start: Tensor, trace: Trace, metric: LatentMetric, novelty: Novelty) -> dict[str, float]:
    """Return what n chains did between `start` (n, d) and the end: acceptance, energy, distance, novelty."""
    moved = (trace.position - start).norm(dim=1)
    numbers = {
        "acceptance": float(trace.acceptance.mean()),
        "divergences": float(trace.diverged.sum()),
        "log_density": float(trace.log_density.mean()),
        "samples_above_floor": fraction_above_floor(metric, trace.position),
        "distance_to_start": float(moved.median()),
        "distance_to_start_ratio": float(moved.median()) / novelty.reference,
        **novelty.scalars(trace.position),
    }
    if len(trace.energies):
        numbers["energy"] = float(trace.energies[-1].mean())
    return numbers


def mixing(trace: Trace, n_super: int) -> dict[str, float]:
    """Return R-hat, nested R-hat and effective sample sizes, the worst over the dimensions and the log-density."""
    assert trace.positions is not None
    assert trace.log_densities is not None
    if len(trace.positions) < 4:
        return {}
    draws = torch.cat([trace.positions, trace.log_densities.unsqueeze(2)], dim=2).double().cpu().unbind(2)
    return {
        "e_bfmi": float(e_bfmi(trace.energies).median()),
        "r_hat": max(r_hat(d) for d in draws),
        "nested_r_hat": max(nested_r_hat(d, n_super) for d in draws),
        "ess_bulk": min(ess_bulk(d) for d in draws),
        "ess_tail": min(ess_tail(d) for d in draws),
        "jump_acceptance": float(trace.jumped.mean()),
    }


def warn_if_blind(fraction: float, metric: LatentMetric) -> None:
    """Warn when most codes lie on the floor, where the metric is flat and HMC a random walk."""
    if fraction < LOWEST_COVERAGE:
        warnings.warn(
            f"only {fraction:.0%} of the codes lie above the floor of the metric (k = {metric.k}, temperature = "
            f"{metric.temperature:.3g}): elsewhere the sampler is a random walk; use temperature='coverage', a larger "
            "temperature, or more centroids",
            stacklevel=3,
        )


def warn_if_still(numbers: dict[str, float]) -> None:
    """Warn when the chains have hardly left their starting points: the samples are training codes."""
    if numbers["distance_to_start_ratio"] < LEAST_MOVE:
        warnings.warn(
            f"the chains ended {numbers['distance_to_start']:.3g} from where they started, "
            f"{numbers['distance_to_start_ratio']:.1%} of the distance between neighbouring codes: the samples are "
            "training codes; use more transitions or a larger step size",
            stacklevel=3,
        )
