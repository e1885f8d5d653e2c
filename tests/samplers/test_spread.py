"""How draws spread over the codes: counts against closed forms, and a density that piles up on dense codes."""

import warnings

import pytest
import torch
from torch import Generator, Tensor

from geovae.codes import Codes
from geovae.samplers import SAMPLERS
from geovae.samplers.base import Spread, count_effective


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_the_effective_number_of_codes_has_its_closed_forms() -> None:
    assert count_effective(torch.zeros(50, dtype=torch.long), 200) == 1
    assert count_effective(torch.arange(50), 200) == 200, "no two agree: at most all of them"
    assert count_effective(torch.tensor([0, 0, 1, 1]), 9) == pytest.approx(3)  # 4 of 12 ordered pairs agree
    few = torch.randint(40, (20_000,), generator=seeded())
    assert count_effective(few, 1000) == pytest.approx(40, rel=0.02)


def two_groups(n: int, share: float) -> Tensor:
    z = torch.randn(n, 3, generator=seeded(1))
    z[: int(share * n)] += 50
    return z


@pytest.mark.parametrize(("share", "expected"), [(0.2, 0.0), (0.5, 0.3), (1.0, 0.8)])
def test_the_distance_of_shares_is_what_must_move(share: float, expected: float) -> None:
    """A fifth of the codes lies far away; clusters never straddle the gap, so that at least the excess must move."""
    numbers = Spread(two_groups(20_000, 0.2)).scalars(two_groups(10_000, share))
    assert numbers["cluster_share_distance"] == pytest.approx(expected, abs=0.04)


def test_fresh_draws_of_the_codes_distribution_are_within_chance() -> None:
    codes = torch.randn(3000, 8, generator=seeded())
    distances = [
        Spread(codes).scalars(torch.randn(400, 8, generator=seeded(s)))["cluster_share_distance"] for s in (1, 2, 3)
    ]
    assert max(distances) < 0.03


def test_few_codes_tell_nothing() -> None:
    assert Spread(torch.randn(30, 2, generator=seeded())).scalars(torch.randn(9, 2, generator=seeded())) == {}
    assert Spread(torch.zeros(500, 2)).scalars(torch.zeros(9, 2)) == {}


@pytest.fixture(scope="module")
def dense_and_sparse() -> Codes:
    """A tenth of the codes lies so densely that its bumps overlap: there the volume of the metric is largest."""
    mu = 4 * torch.randn(1000, 8, generator=seeded())
    mu[:100] *= 0.05
    return Codes(mu, torch.full_like(mu, -2.0))


def test_a_sampler_that_piles_up_says_so(dense_and_sparse: Codes) -> None:
    sampler = SAMPLERS["riemannian"](preset=None, n_transitions=40, n_jumps=2).fit(dense_and_sparse)
    with pytest.warns(UserWarning, match="they pile up, and reach an effective .* 'fine_mixture'"):
        _, info = sampler.sample(500, seeded(), return_info=True)
    assert info.scalars()["codes_reached"] < 150


@pytest.mark.parametrize("name", ["local", "fine_mixture", "mixture", "riemannian"])
def test_no_default_piles_up(dense_and_sparse: Codes, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, info = SAMPLERS[name]().fit(dense_and_sparse).sample(500, seeded(), return_info=True)
    assert info.scalars()["cluster_share_distance"] < 0.2
    assert info.scalars()["codes_reached"] > 150


def test_new_data_reach_a_large_part_of_the_codes_and_those_in_the_middle_of_clusters_do_not() -> None:
    """Samples that gather in the middle of each cluster have its share, but few codes."""
    centres = 20 * torch.eye(10, 16)[torch.arange(2000) % 10]
    codes, fresh = (centres + torch.randn(2000, 16, generator=seeded(s)) for s in (0, 1))
    spread = Spread(codes)
    new, middle = spread.scalars(fresh), spread.scalars(centres + 0.3 * torch.randn(2000, 16, generator=seeded(2)))
    assert new["codes_reached"] > 600
    assert middle["codes_reached"] < new["codes_reached"] / 3
    assert max(new["cluster_share_distance"], middle["cluster_share_distance"]) < 0.2
