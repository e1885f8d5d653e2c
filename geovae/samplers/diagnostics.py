"""Convergence diagnostics of parallel chains, in float64; every input is (t, n): t transitions of n chains.

Rank-normalised split R-hat, bulk and tail effective sample size: Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021).
Nested R-hat for many short chains: Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari, Gelman (2024). E-BFMI:
Betancourt (2016).
"""

import math

import numpy as np
import torch
from torch import Tensor


def e_bfmi(energies: Tensor) -> Tensor:
    """Return `sum (E_t - E_{t-1})^2 / sum (E_t - mean E)^2` of each chain (n,); below 0.3 is bad."""
    e = energies.double()
    return e.diff(dim=0).square().sum(0) / (e - e.mean(0)).square().sum(0)


def split(draws: Tensor) -> Tensor:
    """Return the halves of every chain as chains: (t, n) -> (t // 2, 2 n)."""
    half = len(draws) // 2
    return torch.cat([draws[:half], draws[len(draws) - half :]], dim=1).double()


def rank_normalise(draws: Tensor) -> Tensor:
    """Return normal scores of the pooled average ranks, `Phi^-1((r - 3/8) / (S + 1/4))`."""
    from scipy.stats import rankdata

    ranks = rankdata(draws.detach().cpu().numpy(), axis=None).reshape(draws.shape)
    return torch.special.ndtri(torch.from_numpy((ranks - 0.375) / (draws.numel() + 0.25)))


def fold(draws: Tensor) -> Tensor:
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
    return max(plain_r_hat(rank_normalise(split(d))) for d in (draws, fold(draws)))


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
    if not variance > 0:
        return float("nan")
    rho = 1 - (within - covariance * t / (t - 1)) / variance
    rho[0] = 1.0
    pairs = rho[: t // 2 * 2].view(-1, 2).sum(1)
    negative = torch.nonzero(pairs < 0)
    pairs = pairs[: int(negative[0])] if len(negative) else pairs
    tau = -1 + 2 * float(pairs.cummin(0).values.sum())
    return t * n / max(tau, 1 / math.log10(t * n))


def _autocovariance(chains: Tensor) -> Tensor:
    """Return the biased autocovariances (t, n) by Fourier transform."""
    t = len(chains)
    size = 2 ** math.ceil(math.log2(2 * t))
    spectrum = torch.fft.rfft(chains - chains.mean(0), size, dim=0)
    return torch.fft.irfft(spectrum.abs().square(), size, dim=0)[:t] / t


def ess_bulk(draws: Tensor) -> float:
    """Return the effective sample size of the rank-normalised split chains."""
    _check(draws)
    return ess(rank_normalise(split(draws)))


def ess_tail(draws: Tensor) -> float:
    """Return the smaller effective sample size of the indicators of the 5 % and the 95 % quantile."""
    _check(draws)
    low, high = np.quantile(draws.detach().double().cpu().numpy(), [0.05, 0.95])
    return min(ess(split((draws <= q).double())) for q in (low, high))


def _check(draws: Tensor) -> None:
    if draws.ndim != 2 or len(draws) < 4:
        raise ValueError(f"`draws` must be (t, n) with t >= 4 transitions, got shape {tuple(draws.shape)}")
