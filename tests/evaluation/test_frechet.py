"""The Frechet distance against closed forms and pytorch-fid's own function."""

import numpy as np
import pytest
import torch

from geovae.evaluation import Statistics, frechet, frechet_distance, statistics
from geovae.evaluation.inception import import_pytorch_fid


def with_moments(n, mean, covariance, generator):
    """Draw (n, d) float64 points whose sample mean and covariance are exactly those given."""
    z = torch.randn(n, len(mean), generator=generator, dtype=torch.float64)
    z -= z.mean(dim=0)
    q = torch.linalg.qr(z).Q * (n - 1) ** 0.5
    return q @ torch.linalg.cholesky(covariance).T + mean


def two_gaussians(generator, n=50, m=70):
    s1 = torch.tensor([[2.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    s2 = torch.tensor([[1.0, -0.5], [-0.5, 3.0]], dtype=torch.float64)
    mu1, mu2 = torch.tensor([1.0, 2.0]).double(), torch.tensor([-1.0, 0.5]).double()
    # for 2 x 2: tr sqrt(A) = sqrt(tr A + 2 sqrt(det A))
    product = s1 @ s2
    root = (product.trace() + 2 * product.det().sqrt()).sqrt()
    expected = float((mu1 - mu2).square().sum() + s1.trace() + s2.trace() - 2 * root)
    return with_moments(n, mu1, s1, generator), with_moments(m, mu2, s2, generator), expected


def test_gaussians_with_a_closed_form(generator):
    real, fake, expected = two_gaussians(generator)
    assert frechet(real=real, fake=fake)["frechet"] == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(statistics(real), statistics(fake)) == pytest.approx(expected, rel=1e-10)


def test_diagonal_gaussians_differ_by_their_deviations(generator):
    deviations = torch.tensor([[1.0, 2.0, 3.0], [2.0, 2.0, 0.5]], dtype=torch.float64)
    real, fake = (with_moments(30, torch.zeros(3).double(), torch.diag(s**2), generator) for s in deviations)
    expected = float((deviations[0] - deviations[1]).square().sum())
    assert frechet(real=real, fake=fake)["frechet"] == pytest.approx(expected, rel=1e-10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("n", "m"), [(300, 200), (30, 40), (30, 300), (300, 30), (64, 65)])
def test_equals_pytorch_fid_above_and_below_the_dimension(n, m, generator):
    import_pytorch_fid()
    from pytorch_fid.fid_score import calculate_frechet_distance

    mix = torch.randn(64, 64, generator=generator)
    real = torch.randn(n, 64, generator=generator) @ mix
    fake = torch.randn(m, 64, generator=generator) @ mix * 1.3 + 0.2
    moments = [x for f in (real, fake) for x in (f.double().numpy().mean(0), np.cov(f.double().numpy(), rowvar=False))]
    try:
        expected = calculate_frechet_distance(*moments)
    except TypeError:
        pytest.skip("scipy >= 1.18 no longer has the argument that pytorch-fid 0.3.0 passes")
    assert frechet(real=real, fake=fake)["frechet"] == pytest.approx(expected, rel=1e-6)
    a, b = Statistics(*map(torch.from_numpy, moments[:2])), Statistics(*map(torch.from_numpy, moments[2:]))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_singular_covariances_take_the_other_way(generator):
    """A constant column makes Cholesky fail; the value must not notice."""
    real, fake, expected = two_gaussians(generator)
    padded = [torch.cat([x, torch.full((len(x), 3), 7.0)], dim=1) for x in (real, fake)]
    assert frechet(real=padded[0], fake=padded[1])["frechet"] == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(*map(statistics, padded)) == pytest.approx(expected, rel=1e-6)


def test_an_offset_of_1e3_changes_nothing(generator):
    real, fake, expected = two_gaussians(generator)
    shifted = [(x + 1e3).float() for x in (real, fake)]
    assert frechet(real=shifted[0], fake=shifted[1])["frechet"] == pytest.approx(expected, rel=1e-4)


def test_two_points_each():
    real, fake = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [3.0]])
    assert frechet(real=real, fake=fake)["frechet"] == pytest.approx(2.0**2 + 2.0)  # variance 2 against 0


def test_never_negative_and_zero_for_copies(generator):
    x = torch.randn(40, 100, generator=generator) * 1e-3 + 5
    assert frechet(real=x, fake=x.flip(0))["frechet"] == pytest.approx(0.0, abs=1e-12)


def test_statistics_of_different_kinds_do_not_compare(generator):
    a, b = (statistics(torch.randn(5, d, generator=generator)) for d in (3, 4))
    with pytest.raises(ValueError, match="different widths do not compare: 3 and 4"):
        frechet_distance(a, b)
    a, b = (statistics(torch.randn(5, 3, generator=generator), extractor=name) for name in ("inception", "pixels"))
    with pytest.raises(ValueError, match="different extractors do not compare: inception and pixels"):
        frechet_distance(a, b)
