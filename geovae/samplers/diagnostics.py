"""Diagnostics of parallel chains, in float64, and the numbers and warnings that samplers make of them.

Every `draws` and `chains` is (t, n): t transitions of n chains.

Rank-normalised split R-hat, bulk and tail effective sample size: Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021).
Nested R-hat for many short chains: Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari, Gelman (2024). E-BFMI:
Betancourt (2016).
"""

import math
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from geovae.geometry.metric import LatentMetric
from geovae.geometry.temperature import fraction_above_floor
from geovae.neighbours import ratio
from geovae.samplers.base import Novelty
from geovae.samplers.chains import Trace

LOWEST_COVERAGE = 0.5  # of the codes above the floor, below which `warn_if_flat` warns
LEAST_MOVE = 0.05  # of the distance between codes, below which `warn_if_still` warns

MOVEMENT: Mapping[str, str] = {
    "temperature": "temperature of the metric (Eq. 7) [latent units]",
    "n_centroids": "centroids of the metric [count]",
    "step_size": "step of the leapfrog integrator [latent units]",
    "acceptance": "mean acceptance of the chains [part of 1]",
    "divergences": "chains whose integration blew up [count]; lower is better",
    "log_density": "mean log-density at the samples, up to a constant [nats]",
    "samples_above_floor": "part of the samples where the metric is not flat [part of 1]; higher is better",
    "distance_to_start": "median distance that a chain moved [latent units]",
    "distance_to_start_ratio": "the same over the distance between training codes",
    "energy": "mean energy at the end [nats]",
}
"""What samplers with chains record of their movement."""

MIXING: Mapping[str, str] = {
    "e_bfmi": "energy fraction of missing information, median over chains; below 0.3 is bad; higher is better",
    "r_hat": "worst R-hat over dimensions; 1 is mixed; lower is better",
    "nested_r_hat": "worst nested R-hat, for many short chains; lower is better",
    "ess_bulk": "worst effective sample size of the bulk [draws]; higher is better",
    "ess_tail": "worst effective sample size of the tails [draws]; higher is better",
    "jump_acceptance": "mean acceptance of the jumps between codes [part of 1]",
}
"""What `describe_mixing` records."""


def e_bfmi(energies: Tensor) -> Tensor:
    """Return `sum (E_t - E_{t-1})^2 / sum (E_t - mean E)^2` of each chain (n,); below 0.3 is bad."""
    e = energies.double()
    return e.diff(dim=0).square().sum(0) / (e - e.mean(0)).square().sum(0)


def split_chains(draws: Tensor) -> Tensor:
    """Return the halves of every chain as chains: (t, n) -> (t // 2, 2 n)."""
    half = len(draws) // 2
    return torch.cat([draws[:half], draws[len(draws) - half :]], dim=1).double()


def rank_normalise(draws: Tensor) -> Tensor:
    """Return normal scores of the pooled average ranks, `Phi^-1((r - 3/8) / (S + 1/4))`."""
    from scipy.stats import rankdata

    ranks = rankdata(draws.detach().cpu().numpy(), axis=None).reshape(draws.shape)
    return torch.special.ndtri(torch.from_numpy((ranks - 0.375) / (draws.numel() + 0.25)))


def fold_draws(draws: Tensor) -> Tensor:
    """Return distances from the pooled median, which show differences of scale."""
    values = draws.double()
    return (values - float(np.median(values.cpu().numpy()))).abs()


def plain_r_hat(chains: Tensor) -> float:
    """Return `sqrt(((t - 1) / t W + B / t) / W)` of chains (t, n), without splitting or ranks."""
    t = len(chains)
    within = chains.var(0).mean()
    between = chains.mean(0).var()
    return float(torch.sqrt(((t - 1) / t * within + between) / within))


def r_hat(draws: Tensor) -> float:
    """Return the rank-normalised split R-hat: the larger of the bulk's and the folded one; below 1.01 is good."""
    _check(draws)
    return max(plain_r_hat(rank_normalise(split_chains(d))) for d in (draws, fold_draws(draws)))


def nested_r_hat(draws: Tensor, n_super: int) -> float:
    """Return the nested R-hat `sqrt(1 + B / W)` of `n_super` groups of chains (t, n) that share a starting point.

    Chains 0..m-1 are the first group, and so on. W is the mean over groups of the variance between plus within its
    chains, B the variance of the groups' means: short chains can pass it, if there are many.
    """
    t, n = draws.shape
    if n_super < 2 or n % n_super:
        raise ValueError(f"`n_super` must be at least 2 and divide the {n} chains, got {n_super}")
    grouped = draws.double().view(t, n_super, n // n_super)
    chain_means = grouped.mean(0)
    between_chains = chain_means.var(1) if n > n_super else torch.zeros(n_super, dtype=torch.float64)
    within_chains = grouped.var(0).mean(1) if t > 1 else torch.zeros(n_super, dtype=torch.float64)
    within = (between_chains + within_chains.to(between_chains)).mean()
    return float(torch.sqrt(1 + chain_means.mean(1).var() / within))


def ess(chains: Tensor) -> float:
    """Return the effective sample size of chains (t, n): Geyer's initial monotone sequence over the pooled chains."""
    t, n = chains.shape
    chains = chains.double()
    covariance = _autocovariance(chains).mean(1)  # (t,)
    within = covariance[0] * t / (t - 1)
    variance = within * (t - 1) / t + (chains.mean(0).var() if n > 1 else 0.0)
    if not variance > 0:  # a constant chain, or NaN
        return float("nan")
    rho = 1 - (within - covariance * t / (t - 1)) / variance
    rho[0] = 1.0  # exactly, whatever the rounding
    pairs = rho[: t // 2 * 2].view(-1, 2).sum(1)
    negative = torch.nonzero(pairs < 0)  # sums of neighbouring pairs are positive in theory: noise begins here
    pairs = pairs[: int(negative[0])] if len(negative) else pairs
    tau = -1 + 2 * float(pairs.cummin(0).values.sum())
    # The limit is that of Vehtari et al.: antithetic chains cannot have any number of effective draws.
    return t * n / max(tau, 1 / math.log10(t * n))


def _autocovariance(chains: Tensor) -> Tensor:
    """Return the biased autocovariances (t, n) by Fourier transform."""
    t = len(chains)
    size = 2 ** math.ceil(math.log2(2 * t))  # zeros behind the chain keep the transform from wrapping around
    spectrum = torch.fft.rfft(chains - chains.mean(0), size, dim=0)
    return torch.fft.irfft(spectrum.abs().square(), size, dim=0)[:t] / t


def ess_bulk(draws: Tensor) -> float:
    """Return the effective sample size of the rank-normalised split chains."""
    _check(draws)
    return ess(rank_normalise(split_chains(draws)))


def ess_tail(draws: Tensor) -> float:
    """Return the smaller effective sample size of the indicators of the 5 % and the 95 % quantile."""
    _check(draws)
    low, high = np.quantile(draws.detach().double().cpu().numpy(), [0.05, 0.95])
    return min(ess(split_chains((draws <= q).double())) for q in (low, high))


def _check(draws: Tensor) -> None:
    if draws.ndim != 2 or len(draws) < 4:
        raise ValueError(f"`draws` must be (t, n) with t >= 4 transitions, got shape {tuple(draws.shape)}")


def describe_movement(
    start: Tensor, trace: Trace, step_size: float, metric: LatentMetric, novelty: Novelty
) -> dict[str, float]:
    """Return the numbers of `MOVEMENT` and the novelty for n chains that began at `start` (n, d)."""
    moved = (trace.position - start).norm(dim=1)
    numbers = {
        "temperature": metric.temperature,
        "n_centroids": float(metric.k),
        "step_size": step_size,
        "acceptance": float(trace.acceptance.mean()),
        "divergences": float(trace.diverged.sum()),
        "log_density": float(trace.log_density.mean()),
        "samples_above_floor": fraction_above_floor(metric, trace.position),
        "distance_to_start": float(moved.median()),
        "distance_to_start_ratio": ratio(float(moved.median()), novelty.reference),
        **novelty.scalars(trace.position),
    }
    if len(trace.energies):
        numbers["energy"] = float(trace.energies[-1].mean())
    return numbers


def describe_mixing(trace: Trace, n_super: int) -> dict[str, float]:
    """Return the numbers of `MIXING`, the worst over the dimensions and the log-density; none below 4 transitions."""
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


def warn_if_flat(fraction: float, metric: LatentMetric) -> None:
    """Warn when most codes lie on the floor: the metric is flat there, and HMC is a random walk."""
    if fraction < LOWEST_COVERAGE:
        warnings.warn(
            f"only {fraction:.0%} of the codes lie above the floor of the metric (k = {metric.k}, temperature = "
            f"{metric.temperature:.3g}): elsewhere the sampler is a random walk; use temperature='coverage', a larger "
            "temperature, or more centroids",
            stacklevel=3,
        )


def warn_if_still(numbers: dict[str, float]) -> None:
    """Warn when the chains have hardly left their starting points."""
    if numbers["distance_to_start_ratio"] < LEAST_MOVE:
        warnings.warn(
            f"the chains ended {numbers['distance_to_start']:.3g} from where they started, "
            f"{numbers['distance_to_start_ratio']:.1%} of the distance between neighbouring codes: the samples are "
            "training codes; use more transitions or a larger step size",
            stacklevel=3,
        )
