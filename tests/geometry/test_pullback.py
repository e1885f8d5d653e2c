"""The pull-back metric against known Jacobians, and Section 4.4 where it holds exactly: a linear VAE at its optimum."""

import pytest
import torch

from geovae.codes import Codes
from geovae.geometry import LatentMetric, check_pullback, pullback_metric, volume_grid


def test_linear_and_nonlinear_decoders():
    g = torch.Generator().manual_seed(0)
    a, z = torch.randn(12, 3, generator=g).double(), torch.randn(5, 3, generator=g).double()
    found = pullback_metric(lambda x: (x @ a.T).view(-1, 3, 4), z, chunk_size=2)
    torch.testing.assert_close(found, (a.T @ a).expand(5, 3, 3))
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda x: torch.tanh(a @ x), p) for p in z])
    torch.testing.assert_close(pullback_metric(lambda x: torch.tanh(x @ a.T), z), jacobian.mT @ jacobian)


def test_probabilistic_pca_satisfies_section_4_4():
    """With x = A z + noise of variance s^2 and orthogonal columns, Sigma^-1 = A^T A / s^2 + I exactly."""
    g, s2 = torch.Generator().manual_seed(0), 0.05
    a = torch.linalg.qr(torch.randn(10, 3, generator=g).double())[0] * torch.tensor([1.0, 2.0, 0.5]).double()
    precision = (a.T @ a).diagonal() / s2 + 1
    codes = Codes(torch.randn(20, 3, generator=g).double(), -precision.log().expand(20, 3))
    numbers = check_pullback(lambda z: z @ a.T, codes, s2).scalars()
    assert numbers["pullback_error"] < 1e-10
    assert numbers["pullback_ratio"] == pytest.approx(1)
    assert numbers["pullback_correlation"] == pytest.approx(1)
    assert numbers["pullback_off_diagonal"] < 1e-6
    wrong = check_pullback(lambda z: z @ a.T, codes, 2 * s2).scalars()
    assert wrong["pullback_ratio"] < 0.7


def test_bad_decoder_variance():
    codes = Codes(torch.zeros(2, 2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="`decoder_variance` must be positive, got 0"):
        check_pullback(lambda z: z, codes, 0.0)


def test_volume_grid_is_the_volume_at_its_points():
    metric = LatentMetric(torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.ones(2, 2), temperature=1.0, floor=0.1)
    grid = volume_grid(metric, size=7)
    points = torch.tensor([[float(grid.x[5]), float(grid.y[2])]])
    assert float(grid.values[2, 5]) == pytest.approx(float(metric.log_volume(points)), abs=1e-5)
    with pytest.raises(ValueError, match="needs a 2-d latent space, got d = 3"):
        volume_grid(LatentMetric(torch.zeros(1, 3), torch.ones(1, 3), temperature=1.0, floor=0.1))
    with pytest.raises(ValueError, match="`size` must be at least 2"):
        volume_grid(metric, size=1)
