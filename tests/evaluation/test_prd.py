"""PRD: histograms worked by hand, a plain loop, the known values of equal distributions, the order of arguments."""

import math

import pytest
import torch

from geovae.evaluation import PrdCurve, prd, prd_curve
from geovae.evaluation.prd import curve_of_histograms, f_beta, mini_batch_kmeans


def modes(n, which, generator):
    """Points around ten far centres, from the modes `which`."""
    centres = 20 * torch.eye(10)
    return centres[torch.arange(n) % which] + torch.randn(n, 10, generator=generator)


def test_half_the_modes_by_hand():
    """real (1/2, 1/2), fake (1, 0): at slope 2, precision 1 and recall 1/2; F_8 = 65/129, F_1/8 = 65/66."""
    curve = curve_of_histograms(real=torch.tensor([0.5, 0.5]), fake=torch.tensor([1.0, 0.0]), angles=100_001)
    assert f_beta(curve, 8) == pytest.approx(65 / 129, abs=1e-4)
    assert f_beta(curve, 1 / 8) == pytest.approx(65 / 66, abs=1e-4)


def test_slope_one_by_hand():
    """At 45 degrees both coordinates are the overlap: here 0.1 + 0.3 + 0.2 = 0.6."""
    real, fake = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, 0.4, 0.5])
    curve = curve_of_histograms(real=real, fake=fake, angles=3)
    assert (curve.precision[1], curve.recall[1]) == pytest.approx((0.6, 0.6))


@pytest.mark.parametrize(("fake", "expected"), [([0.5, 0.5, 0.0], 1.0), ([0.0, 0.0, 1.0], 0.0)])
def test_equal_and_disjoint_histograms(fake, expected):
    curve = curve_of_histograms(real=torch.tensor([0.5, 0.5, 0.0]), fake=torch.tensor(fake))
    assert f_beta(curve, 8) == pytest.approx(expected, abs=1e-2)
    assert f_beta(curve, 1 / 8) == pytest.approx(expected, abs=1e-2)


def test_curve_equals_a_plain_loop(generator):
    p, q = (torch.rand(20, generator=generator).double() for _ in range(2))
    p, q = p / p.sum(), q / q.sum()
    curve = curve_of_histograms(real=p, fake=q)
    for i in range(0, 1001, 50):
        slope = math.tan(1e-10 + i * (math.pi / 2 - 2e-10) / 1000)
        alpha = sum(min(slope * a, b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
        assert curve.precision[i] == pytest.approx(alpha, rel=1e-6)
        assert curve.recall[i] == pytest.approx(alpha / slope, rel=1e-6)


def test_missing_modes_cost_recall_and_extra_ones_precision(generator):
    everything, half = modes(1000, 10, generator), modes(1000, 5, generator)
    missing = prd(real=everything, fake=half, clusters=10)
    assert missing["prd_f8"] == pytest.approx(65 / 129, abs=0.02)
    assert missing["prd_f1_8"] == pytest.approx(65 / 66, abs=0.02)
    extra = prd(real=half, fake=everything, clusters=10)
    assert extra["prd_f8"] == pytest.approx(missing["prd_f1_8"], abs=0.01)
    assert extra["prd_f1_8"] == pytest.approx(missing["prd_f8"], abs=0.01)


@pytest.mark.parametrize(("n", "expected", "tolerance"), [(100, 0.957, 0.03), (10_000, 0.998, 0.002)])
def test_equal_distributions_reach_the_known_value(n, expected, tolerance, generator):
    """Two multinomial histograms of 20 equal bins give 0.950 with a deviation of 0.027 at n = 100."""
    draws = [torch.randn(2 * n, 2, generator=generator).split(n) for _ in range(5 if n == 100 else 1)]
    found = [value for real, fake in draws for value in prd(real=real, fake=fake, runs=4).values()]
    assert sum(found) / len(found) == pytest.approx(expected, abs=tolerance)


def test_seeded(generator):
    real, fake = torch.randn(60, 3, generator=generator), torch.randn(60, 3, generator=generator)
    before = torch.random.get_rng_state()
    first = prd(real=real, fake=fake, seed=1)
    assert prd(real=real, fake=fake, seed=1) == first
    assert prd(real=real, fake=fake, seed=2) != first
    assert torch.equal(torch.random.get_rng_state(), before)


def test_curve_falls_from_recall_to_precision(generator):
    curve = prd_curve(real=modes(200, 10, generator), fake=modes(200, 5, generator))
    assert isinstance(curve, PrdCurve)
    assert (curve.precision[1:] >= curve.precision[:-1]).all()
    assert (curve.recall[1:] <= curve.recall[:-1] + 1e-9).all()


def test_bad_input(generator):
    x = torch.randn(30, 2, generator=generator)
    with pytest.raises(ValueError, match="equally many rows, got 30 real and 29 fake"):
        prd(real=x, fake=x[1:])
    with pytest.raises(ValueError, match="20 `clusters` need as many rows, got 18"):
        prd_curve(real=x[:9], fake=x[:9])
    with pytest.raises(ValueError, match="`clusters` must be a whole number of at least 2, got 1"):
        prd(real=x, fake=x, clusters=1)
    with pytest.raises(ValueError, match="`runs` must be a whole number of at least 1, got 0"):
        prd(real=x, fake=x, runs=0)
    with pytest.raises(ValueError, match="`beta` must be positive and finite, got 0"):
        f_beta(prd_curve(real=x, fake=x), 0.0)
    with pytest.raises(ValueError, match="31 clusters need at least 31 points, got 30"):
        mini_batch_kmeans(x, 31, generator)


def test_kmeans_is_as_good_as_scikit_learns(generator):
    """Sum of squared distances within 3 % of MiniBatchKMeans with ten starts."""
    from sklearn.cluster import MiniBatchKMeans

    x = torch.cat([torch.randn(4000, 16, generator=generator), modes(1000, 10, generator).repeat(1, 2)[:, :16] / 4])
    labels = mini_batch_kmeans(x, 20, generator)
    groups = [x[labels == i] for i in range(20)]
    own = sum(float((g - g.mean(dim=0)).square().sum()) for g in groups if len(g))
    peer = MiniBatchKMeans(20, n_init=10, random_state=0).fit(x.numpy())
    groups = [x[torch.from_numpy(peer.labels_ == i)] for i in range(20)]
    assert own < 1.03 * sum(float((g - g.mean(dim=0)).square().sum()) for g in groups if len(g))


def test_kmeans_finds_separate_clusters(generator):
    labels = mini_batch_kmeans(modes(500, 10, generator), 10, generator)
    assert len({tuple(labels[i::10].unique().tolist()) for i in range(10)}) == 10
