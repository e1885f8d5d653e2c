"""Expectation maximisation by matrix products, against scikit-learn's."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Generator

from geovae.samplers.gaussian import refine_mixture


def clustered(n: int, d: int, k: int) -> torch.Tensor:
    generator = Generator().manual_seed(0)
    centres = 3 * torch.randn(k, d, generator=generator, dtype=torch.float64)
    spread = torch.randn(k, d, d, generator=generator, dtype=torch.float64)
    which = torch.randint(k, (n,), generator=generator)
    return centres[which] + torch.einsum(
        "nij,nj->ni", spread[which], torch.randn(n, d, generator=generator, dtype=torch.float64)
    )


def starting(x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.full((k,), 1 / k, dtype=torch.float64),
        x[:k].clone(),
        torch.cov(x.T).reshape(1, x.shape[1], -1).repeat(k, 1, 1),
    )


@pytest.mark.parametrize(("n", "d", "k"), [(500, 1, 3), (5000, 3, 7), (4500, 16, 40)])
def test_it_takes_the_steps_of_scikit_learn(n: int, d: int, k: int) -> None:
    x = clustered(n, d, k)
    weights, means, covariances = starting(x, k)
    peer = GaussianMixture(
        k,
        tol=0,
        max_iter=5,
        reg_covar=1e-3,
        weights_init=weights.numpy(),
        means_init=means.numpy(),
        precisions_init=np.linalg.inv(covariances.numpy()),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer.fit(x.numpy())
    ours = refine_mixture(x, weights, means, covariances, ridge=1e-3, steps=5)
    for got, expected in zip(ours, (peer.weights_, peer.means_, peer.covariances_), strict=True):
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6, atol=1e-8)


def test_it_keeps_its_digits_far_from_the_origin() -> None:
    x, k = clustered(3000, 4, 5), 5
    weights, means, covariances = refine_mixture(x, *starting(x, k), ridge=1e-6, steps=4)
    far = refine_mixture(x + 1e4, *starting(x + 1e4, k), ridge=1e-6, steps=4)
    torch.testing.assert_close(far, (weights, means + 1e4, covariances), rtol=1e-6, atol=1e-6)


def test_a_component_without_points_stays_finite() -> None:
    x = clustered(300, 2, 1)
    weights, means, covariances = starting(x, 2)
    means[1] = 1e6
    weights, means, covariances = refine_mixture(x, weights, means, covariances, ridge=1e-3, steps=3)
    assert weights[1] < 1e-12
    torch.testing.assert_close(means[0], x.mean(0))
    assert all(torch.isfinite(values).all() for values in (weights, means, covariances))


def test_it_runs_on_the_device_of_its_points(device: torch.device) -> None:
    x = clustered(2000, 3, 4)
    expected = refine_mixture(x, *starting(x, 4), ridge=1e-3, steps=5)
    got = refine_mixture(x.to(device), *(p.to(device) for p in starting(x, 4)), ridge=1e-3, steps=5)
    for a, b in zip(got, expected, strict=True):
        assert a.device.type == device.type
        torch.testing.assert_close(a.cpu(), b, rtol=1e-8, atol=1e-8)
