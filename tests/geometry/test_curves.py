"""Curves, distances and the exponential map on metrics whose geodesics are known."""

import math

import pytest
import torch

from geovae.geometry import (
    LatentMetric,
    curve_energies,
    curve_lengths,
    distance_grid,
    distances_from,
    exponential_map,
    geodesic_medoids,
    geodesics,
    interpolate,
    neighbour_graph,
    path_to,
    refine,
    straight,
    volume_paths,
)
from geovae.geometry.curves import log_inverse_volumes, resample


class HalfPlane:
    """The hyperbolic half-plane y > 0, ds^2 = (dx^2 + dy^2) / y^2; its geodesics are half circles about the x axis."""

    def squared_norm(self, z, v):
        return v.square().sum(1) / z[:, 1] ** 2

    def cosquared_norm(self, z, p):
        return p.square().sum(1) * z[:, 1] ** 2

    def log_volume(self, z):
        return -2 * z[:, 1].abs().log()


class Flat(HalfPlane):
    def squared_norm(self, z, v):
        return v.square().sum(1)

    def cosquared_norm(self, z, p):
        return p.square().sum(1)

    def log_volume(self, z):
        return 0 * z[:, 0]


def hyperbolic_distance(a, b):
    return torch.acosh(1 + (a - b).square().sum(1) / (2 * a[:, 1] * b[:, 1]))


START = torch.tensor([[0.0, 1.0], [0.0, 1.0], [-2.0, 0.5]], dtype=torch.float64)
END = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 1.5]], dtype=torch.float64)


def test_geodesics_of_the_half_plane():
    curves = geodesics(HalfPlane(), START, END, n_points=100, n_steps=400)
    lengths, exact = curve_lengths(HalfPlane(), curves), hyperbolic_distance(START, END)
    torch.testing.assert_close(lengths, exact, rtol=2e-3, atol=0)
    radius = (curves[0] - torch.tensor([1.0, 0.0])).norm(dim=1)
    torch.testing.assert_close(radius, torch.full_like(radius, math.sqrt(2)), rtol=5e-3, atol=0)
    torch.testing.assert_close(curves[:, 0], START)
    torch.testing.assert_close(curves[:, -1], END)


def test_a_curve_does_not_depend_on_its_batch():
    together = geodesics(HalfPlane(), START, END, n_points=20, n_steps=50)
    alone = geodesics(HalfPlane(), START[1:2], END[1:2], n_points=20, n_steps=50)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-9, atol=1e-9)


def test_energy_bounds_the_squared_length_and_equals_it_at_constant_speed():
    line = straight(START, END, 30)
    torch.testing.assert_close(curve_energies(Flat(), line), (END - START).square().sum(1))
    assert (curve_energies(HalfPlane(), line) >= curve_lengths(HalfPlane(), line) ** 2).all()
    torch.testing.assert_close(curve_lengths(Flat(), line), (END - START).norm(dim=1))


def test_exponential_map_of_the_half_plane():
    """Straight up, y grows exponentially; sideways, a half circle; the speed stays what it was."""
    z = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    v = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    curves = exponential_map(HalfPlane(), z, v, n_steps=50)
    expected = torch.tensor([[0.0, math.e], [math.tanh(1), 1 / math.cosh(1)]], dtype=torch.float64)
    torch.testing.assert_close(curves[:, -1], expected, rtol=1e-7, atol=1e-7)
    length = curve_lengths(HalfPlane(), curves)
    torch.testing.assert_close(length, torch.ones(2).double(), rtol=1e-3, atol=0)


def test_exponential_map_ends_where_the_geodesic_does():
    metric = ring(temperature=0.6)
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    end = exponential_map(metric, start, torch.tensor([[0.05, 0.15]]).double(), n_steps=200)[:, -1]
    curve = geodesics(metric, start, end, n_points=40, n_steps=600)
    speed = metric.squared_norm(start, torch.tensor([[0.05, 0.15]]).double()).sqrt()
    torch.testing.assert_close(curve_lengths(metric, curve), speed, rtol=2e-3, atol=0)


def ring(n=24, temperature=0.35, floor=1e-2):
    angle = torch.arange(n).double() * 2 * math.pi / n
    c = torch.stack([angle.cos(), angle.sin()], 1)
    return LatentMetric(c, torch.ones_like(c), temperature=temperature, floor=floor)


def test_interpolation_keeps_to_the_data_where_the_straight_line_leaves_it():
    metric = ring()
    a, b = metric.centroids[0:1], metric.centroids[7:8]
    curve = interpolate(metric, a, b, n_points=40, n_steps=300)
    line = straight(a, b, 40)
    assert metric.log_volume(curve[0]).min() > metric.log_volume(line[0]).min() + 0.8
    assert (curve[0].norm(dim=1) - 1).abs().max() < 0.25
    gaps = curve[0].diff(dim=0).norm(dim=1)
    assert gaps.max() < 1.1 * gaps.min()


def test_interpolation_from_a_path_over_the_data_finds_the_way_that_the_straight_line_misses():
    """Along a spiral of one and a half turns, whose ends the straight line joins across the empty inside."""
    metric, spiral = coil()
    a, b = spiral[[0, 0]], spiral[[-1, 100]]
    alone = interpolate(metric, a, b)
    along = volume_paths(metric, spiral[7::3], a, b)
    curves = interpolate(metric, a, b, initial=along)
    assert (log_inverse_volumes(metric, curves) <= log_inverse_volumes(metric, alone) + 1e-9).all()
    assert log_inverse_volumes(metric, curves)[0] < log_inverse_volumes(metric, alone)[0] - 0.5
    assert torch.cdist(curves[0], spiral).min(1).values.max() < 0.1
    torch.testing.assert_close(curves[:, [0, -1]], torch.stack([a, b], 1))


@pytest.mark.parametrize("search", [interpolate, geodesics])
def test_a_start_with_other_ends_is_refused(search):
    for initial in (straight(START, START, 9), straight(START, END, 9)[:1], START):
        with pytest.raises(ValueError, match=r"`initial` must be \(b, m, d\) with `start` \(3, 2\) and `end` as its"):
            search(Flat(), START, END, initial=initial)


def coil():
    angle = torch.linspace(0, 3 * math.pi, 150, dtype=torch.float64)
    spiral = (1 + angle / 4).unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1)
    return LatentMetric(spiral, torch.ones_like(spiral), temperature=0.2, floor=1e-2), spiral


def test_the_better_of_two_starts_is_kept_for_each_curve():
    """A detour given as the start does no harm where the straight line is the answer."""
    detour = straight(START, END, 50) + torch.linspace(0, math.pi, 50).sin().view(1, 50, 1).double() * 30
    detour[:, [0, -1]] = torch.stack([START, END], 1)
    found = interpolate(Flat(), START, END, initial=detour, n_steps=5)
    torch.testing.assert_close(found, straight(START, END, 50), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("d", "dtype"), [(2, torch.float32), (64, torch.float32), (200, torch.float64)])
def test_paths_are_finite_where_the_volume_overflows(d, dtype):
    points = torch.randn(60, d, generator=torch.Generator().manual_seed(0), dtype=dtype) * 100
    metric = LatentMetric(points, torch.ones_like(points), temperature=0.1, floor=1e-6)
    paths = volume_paths(metric, points[2:], points[:1], points[1:2], n_points=9, most=20)
    assert paths.shape == (1, 9, d)
    assert paths.isfinite().all()
    torch.testing.assert_close(paths[0, [0, -1]], points[:2])


def test_resampling_keeps_ends_and_evens_steps():
    bent = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [3.0, 1.0]]]).double()
    even = resample(bent, 9)
    torch.testing.assert_close(even[0, [0, 6, 8]], bent[0])
    torch.testing.assert_close(even.diff(dim=1).norm(dim=2), torch.full((1, 8), 0.5).double())


def test_graph_distances_bound_the_hyperbolic_ones_and_refinement_reaches_them():
    g = torch.Generator().manual_seed(0)
    points = torch.rand(400, 2, generator=g, dtype=torch.float64) * 2 + torch.tensor([-1.0, 0.5])
    found = distances_from(neighbour_graph(HalfPlane(), points, n_neighbours=12), 0)
    exact = hyperbolic_distance(points[:1].expand(400, 2), points)
    assert (found.distances >= exact - 1e-3).all()
    assert (found.distances <= 1.25 * exact + 1e-3).all()
    targets = exact.topk(5).indices
    lengths, curves = refine(HalfPlane(), points, found, targets, n_steps=200)
    torch.testing.assert_close(lengths, exact[targets], rtol=5e-3, atol=0)
    torch.testing.assert_close(curves[:, -1], points[targets])
    path = path_to(found, int(targets[0]))
    assert path[0] == 0
    assert path[-1] == int(targets[0])


def test_separate_components_are_joined():
    cloud = torch.rand(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = torch.cat([cloud, cloud + 50, cloud - 50])
    found = distances_from(neighbour_graph(Flat(), points, n_neighbours=3), 0)
    assert torch.isfinite(found.distances).all()


def test_geodesic_medoids_separate_what_straight_distances_do_not():
    """Two concentric rings: along the density each is one piece, while their Euclidean means coincide."""
    angle = torch.arange(60).double() * 2 * math.pi / 60
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    points = torch.cat([circle, 3 * circle])

    class Conformal(Flat):  # cheap near the rings, dear between them
        def squared_norm(self, z, v):
            away = (z.norm(dim=1) - 1).abs().minimum((z.norm(dim=1) - 3).abs())
            return (0.05 + 20 * away.clamp(max=1)).square() * v.square().sum(1)

    clusters = geodesic_medoids(neighbour_graph(Conformal(), points, n_neighbours=8), 2)
    assert len(set(clusters.labels[:60].tolist())) == 1
    assert len(set(clusters.labels[60:].tolist())) == 1
    assert clusters.labels[0] != clusters.labels[60]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`start` and `end` must both be"):
        straight(START, END[:2])
    with pytest.raises(ValueError, match="`n_points` must be at least 2"):
        straight(START, END, 1)
    with pytest.raises(ValueError, match=r"`n_neighbours` must lie in 1..2 for 3 points, got 3"):
        neighbour_graph(Flat(), START, n_neighbours=3)
    with pytest.raises(ValueError, match="`k` must lie in 1"):
        geodesic_medoids(neighbour_graph(Flat(), START, n_neighbours=1), 4)
    with pytest.raises(ValueError, match="`z` and `v` must both be"):
        exponential_map(Flat(), START, END[:1])
    with pytest.raises(ValueError, match="`n_steps` must be at least 1"):
        exponential_map(Flat(), START, END, n_steps=0)


def test_points_that_are_no_numbers_are_named():
    bad = torch.full_like(START, math.nan)
    with pytest.raises(ValueError, match="`end` must be finite, got NaN"):
        interpolate(Flat(), START, bad)
    with pytest.raises(ValueError, match="`initial` must be finite, got NaN"):
        geodesics(Flat(), START, END, initial=bad.unsqueeze(1).expand(-1, 5, -1))
    with pytest.raises(ValueError, match="`points` must be finite, got NaN"):
        neighbour_graph(Flat(), bad, n_neighbours=1)
    with pytest.raises(ValueError, match="`v` must be finite, got NaN"):
        exponential_map(Flat(), START, bad)


def test_distance_map_of_the_half_plane():
    source = torch.tensor([0.0, 1.0], dtype=torch.float64)
    grid = distance_grid(HalfPlane(), source, (-1.0, 1.0, 0.5, 2.5), size=25)
    points = torch.stack([grid.x.repeat(25), grid.y.repeat_interleave(25)], 1)
    exact = hyperbolic_distance(source.expand_as(points), points)
    far = exact > 0.3
    ratio = grid.values.flatten()[far] / exact[far]
    assert ratio.min() > 0.99
    assert ratio.max() < 1.05
