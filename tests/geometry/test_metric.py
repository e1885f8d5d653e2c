"""`LatentMetric` against dense linear algebra, autograd and its own limits."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geovae.geometry import LatentMetric


def make(k, d, *, full=False, seed=0, dtype=torch.float64, **options):
    g = torch.Generator().manual_seed(seed)
    centroids = torch.randn(k, d, dtype=dtype, generator=g)
    values = torch.rand(k, d, dtype=dtype, generator=g) * 3 + 0.1
    if full:
        a = torch.randn(k, d, d, dtype=dtype, generator=g)
        values = a @ a.mT
    return LatentMetric(centroids, values, **{"temperature": 0.9, "floor": 0.01, **options})


def points(n, d, seed=1, dtype=torch.float64):
    return torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def dense_field(metric, z):
    """Eq. 7 as it is written, with (n, k, d, d) arrays."""
    values = metric.values if metric.values.ndim == 3 else torch.diag_embed(metric.values)
    delta = z[:, None] - metric.centroids[None]
    form = values[None] if metric.weights == "mahalanobis" else torch.eye(metric.d, dtype=z.dtype)
    squared = torch.einsum("nki,nkij,nkj->nk", delta, form.expand(len(z), metric.k, metric.d, metric.d), delta)
    w = torch.exp(-squared / metric.temperature**2)
    floor = metric.floor * torch.exp(-metric.decay * (z**2).sum(1))
    return torch.einsum("nk,kij->nij", w, values) + floor[:, None, None] * torch.eye(metric.d, dtype=z.dtype)


@given(
    k=st.integers(1, 12),
    d=st.integers(1, 6),
    full=st.booleans(),
    weights=st.sampled_from(["mahalanobis", "euclidean"]),
    tensor=st.sampled_from(["metric", "cometric"]),
    decay=st.sampled_from([0.0, 0.2]),
    chunk=st.sampled_from([None, 1, 40]),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_volume_and_gradient_equal_dense_autograd(k, d, full, weights, tensor, decay, chunk, seed):
    metric = make(k, d, full=full, seed=seed, weights=weights, tensor=tensor, decay=decay, chunk_elements=chunk)
    z = points(20, d, seed).requires_grad_()
    sign = 1 if tensor == "metric" else -1
    expected = sign * 0.5 * torch.logdet(dense_field(metric, z))
    (slope,) = torch.autograd.grad(expected.sum(), z)
    volume, grad = metric.log_volume_and_grad(z.detach())
    torch.testing.assert_close(volume, expected.detach(), rtol=0, atol=1e-10)
    torch.testing.assert_close(grad, slope, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(metric.log_volume(z.detach()), volume, rtol=0, atol=1e-12)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("tensor", ["metric", "cometric"])
def test_metric_and_cometric_are_the_dense_field_and_its_inverse(full, tensor):
    metric = make(7, 3, full=full, tensor=tensor, decay=0.1)
    z, v = points(15, 3), points(15, 3, seed=5)
    field = dense_field(metric, z)
    g, g_inverse = (field, field.inverse()) if tensor == "metric" else (field.inverse(), field)
    torch.testing.assert_close(metric.metric_matrix(z), g)
    torch.testing.assert_close(metric.cometric_matrix(z), g_inverse)
    torch.testing.assert_close(metric.squared_norm(z, v), torch.einsum("ni,nij,nj->n", v, g, v))
    torch.testing.assert_close(metric.cosquared_norm(z, v), torch.einsum("ni,nij,nj->n", v, g_inverse, v))
    torch.testing.assert_close(metric.log_volume(z), 0.5 * torch.logdet(g))


def test_learned_inverse_metric_of_rhvae_against_dense_algebra():
    """G^-1 = sum_i L_i L_i^T exp(-|z - c_i|^2 / T^2) + lambda I (Chadebec et al. 2020, Eq. 8)."""
    g = torch.Generator().manual_seed(3)
    c, z = torch.randn(9, 4, generator=g).double(), points(11, 4)
    lower = torch.randn(9, 4, 4, generator=g).double().tril()
    learned = LatentMetric(c, lower @ lower.mT, temperature=0.8, floor=1e-3, weights="euclidean", tensor="cometric")
    inverse = 1e-3 * torch.eye(4).double().expand(11, 4, 4).clone()
    for i in range(9):
        w = torch.exp(-(z - c[i]).square().sum(1) / 0.8**2)
        inverse += w[:, None, None] * (lower[i] @ lower[i].T)
    torch.testing.assert_close(learned.cometric_matrix(z), inverse)
    torch.testing.assert_close(learned.log_volume(z), -0.5 * torch.logdet(inverse))


def test_second_derivatives_flow_through_log_volume():
    metric = make(4, 2, decay=0.1)
    z = points(3, 2).requires_grad_()
    assert torch.autograd.gradcheck(metric.log_volume, (z,))
    assert torch.autograd.gradgradcheck(metric.log_volume, (z,))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3, 1e6, 1e19, 1e37])
def test_every_finite_point_gives_finite_numbers(full, dtype, decay, scale, device):
    metric = make(5, 3, full=full, decay=decay).to(device, dtype)
    z = (points(30, 3) * scale).to(device, dtype)
    volume, grad = metric.log_volume_and_grad(z)
    assert torch.isfinite(volume).all()
    assert torch.isfinite(grad).all()
    assert torch.isfinite(metric.log_volume(z)).all()
    assert torch.isfinite(metric.cometric_matrix(z)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_far_field_is_the_floor(dtype):
    metric = make(5, 3, dtype=dtype)
    volume, grad = metric.log_volume_and_grad(points(10, 3, dtype=dtype) * 1e6)
    torch.testing.assert_close(volume, torch.full_like(volume, 1.5 * math.log(0.01)))
    assert not grad.any()


def test_weights_have_no_denormal_numbers():
    metric = make(50, 4, dtype=torch.float32, temperature=0.3)
    w = metric.centroid_weights(points(500, 4, dtype=torch.float32) * 3)
    assert (w == 0).any()
    assert not ((w > 0) & (w < torch.finfo(torch.float32).tiny)).any()


def test_float32_agrees_with_float64_for_sharp_posteriors_far_from_the_origin():
    g = torch.Generator().manual_seed(0)
    c = torch.randn(200, 16, generator=g).double() + 30
    exact = LatentMetric(c, torch.full_like(c, 800.0), temperature=40.0, floor=0.01)
    z = c + 0.1 * torch.randn(200, 16, generator=g).double()
    volume, grad = exact.log_volume_and_grad(z)
    rough, rough_grad = exact.to(dtype=torch.float32).log_volume_and_grad(z.float())
    torch.testing.assert_close(rough.double(), volume, rtol=1e-4, atol=1e-2)
    assert (rough_grad - grad).norm() < 1e-3 * grad.norm()


@pytest.mark.parametrize("full", [False, True])
def test_chunks_change_nothing(full):
    z = points(100, 3)
    whole, parts = (make(40, 3, full=full, chunk_elements=e) for e in (None, 8))
    for a, b in zip(whole.log_volume_and_grad(z), parts.log_volume_and_grad(z), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(whole.metric_matrix(z), parts.metric_matrix(z), rtol=1e-12, atol=1e-12)


def test_isolated_bumps_have_equal_volumes_whatever_the_covariance():
    """In coordinates u = V^(1/2) (z - c) the density sqrt(det V) exp(-d |u|^2 / (2 rho^2)) du does not know V."""
    side = torch.linspace(-6, 6, 401, dtype=torch.float64)
    u = torch.cartesian_prod(side, side)
    volumes = []
    for values in ([1.0, 1.0], [100.0, 0.01], [3.0, 2000.0]):
        v = torch.tensor([values], dtype=torch.float64)
        metric = LatentMetric(torch.ones(1, 2).double(), v, temperature=1.2, floor=1e-12)
        density = metric.log_volume(1 + u / v.sqrt()).exp()
        volumes.append(float(density.sum() * (side[1] - side[0]) ** 2 / v.prod().sqrt()))
    # 2 pi rho^2 / d, with d = 2
    assert volumes == pytest.approx([math.pi * 1.2**2] * 3, rel=1e-6)


def test_volume_follows_a_linear_change_of_coordinates():
    """For codes A mu and covariances A Sigma A^T, log sqrt det G(A z) = log sqrt det G(z) - log |det A|."""
    metric = make(6, 3, full=True, floor=1e-13)
    a = torch.eye(3).double() + 0.3 * points(3, 3, seed=9)
    inverse = a.inverse()
    moved = LatentMetric(
        metric.centroids @ a.T, inverse.T @ metric.values @ inverse, temperature=metric.temperature, floor=1e-13
    )
    z = metric.centroids + 0.1 * points(6, 3)
    torch.testing.assert_close(
        moved.log_volume(z @ a.T), metric.log_volume(z) - torch.logdet(a.T @ a) / 2, rtol=0, atol=1e-8
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must be positive and finite, got 0"),
        ({"temperature": -1.0}, "`temperature` must be positive and finite, got -1"),
        ({"temperature": math.nan}, "`temperature` must be positive and finite, got nan"),
        ({"temperature": 1e-30}, "overflow"),
        ({"floor": 0.0}, "`floor` must be positive"),
        ({"decay": -0.1}, "`decay` must be 0 or more"),
        ({"chunk_elements": 0}, "`chunk_elements` must be a whole number of at least 1"),
        ({"weights": "cosine"}, "`weights` must be one of mahalanobis, euclidean, got 'cosine'"),
        ({"tensor": "both"}, "`tensor` must be one of metric, cometric"),
        ({"centroids": torch.zeros(0, 2)}, "non-empty"),
        ({"centroids": torch.zeros(3)}, r"\(k, d\)"),
        ({"centroids": torch.full((3, 2), math.nan)}, "`centroids` must be finite"),
        ({"values": torch.full((3, 2), math.inf)}, "a variance of 0"),
        ({"values": -torch.ones(3, 2)}, "must not be negative"),
        ({"values": torch.ones(4, 2)}, r"shape \(3, 2\) or \(3, 2, 2\)"),
        ({"values": torch.ones(3, 2).double()}, "both be float32 or both float64"),
        ({"values": -torch.eye(2).expand(3, 2, 2)}, "semi-definite"),
        ({"values": torch.tensor([[1.0, 1.0], [0.0, 1.0]]).expand(3, 2, 2)}, "symmetric"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"centroids": torch.zeros(3, 2), "values": torch.ones(3, 2), "temperature": 1.0, "floor": 0.1}
    with pytest.raises(ValueError, match=message):
        LatentMetric(**{**arguments, **change})


def test_bad_points_are_named():
    metric = make(3, 2)
    with pytest.raises(ValueError, match=r"`z` must have shape \(n, 2\), got \(4, 3\)"):
        metric.log_volume(torch.zeros(4, 3).double())
    with pytest.raises(ValueError, match=r"`z` must be torch\.float64 like the centroids"):
        metric.log_volume_and_grad(torch.zeros(4, 2))
    assert metric.log_volume_and_grad(torch.zeros(0, 2).double())[1].shape == (0, 2)


def test_threads_do_not_write_into_each_others_weights(generator):
    """Gradients take their memory from the thread: many at once, of two metrics, give what one after the other does."""
    metrics, points = [], torch.randn(400, 3, generator=generator)
    for k in (300, 900):
        c = torch.randn(k, 3, generator=generator)
        metrics.append(LatentMetric(c, torch.ones_like(c), temperature=0.7, floor=1e-2, chunk_elements=20_000))
    jobs = [(metric, points[i:]) for i in range(0, 200, 10) for metric in metrics]
    alone = [metric.log_volume_and_grad(z) for metric, z in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: job[0].log_volume_and_grad(job[1]), jobs))
    for (volume, grad), (volume_2, grad_2) in zip(alone, together, strict=True):
        torch.testing.assert_close(volume, volume_2, rtol=0, atol=0)
        torch.testing.assert_close(grad, grad_2, rtol=0, atol=0)


def test_a_gradient_in_inference_mode_does_no_harm_to_the_next_outside(generator):
    c = torch.randn(1200, 5, generator=generator)
    metric, z = (
        LatentMetric(c, torch.ones_like(c), temperature=0.7, floor=1e-2),
        torch.randn(300, 5, generator=generator),
    )
    with torch.inference_mode():
        inside = metric.log_volume_and_grad(torch.cat([z, z]))  # more than any test before: new rooms
    outside = metric.log_volume_and_grad(z)
    torch.testing.assert_close(outside[1], inside[1][:300], rtol=1e-4, atol=1e-4)
