"""Even choices: exact probabilities, and counts that differ from their shares by less than one."""

import pytest
import torch
from torch import Generator

from geovae.codes import Codes
from geovae.samplers import FineMixtureSampler, LocalSampler, MixtureSampler
from geovae.samplers.base import choose_evenly


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_every_index_and_every_run_of_indices_has_its_share(n: int) -> None:
    weights = torch.rand(23, generator=seeded()).double()
    shares = weights / weights.sum()
    counts = torch.bincount(choose_evenly(weights, n, seeded(1)), minlength=23)
    assert int(counts.sum()) == n
    for start in range(23):
        for end in range(start + 1, 24):
            assert abs(float(counts[start:end].sum() - n * shares[start:end].sum())) < 1 + 1e-9


def test_one_draw_has_exactly_the_probabilities() -> None:
    weights, generator = torch.tensor([0.5, 0.0, 0.2, 0.3]), seeded()
    counts = torch.bincount(torch.cat([choose_evenly(weights, 1, generator) for _ in range(20_000)]), minlength=4)
    torch.testing.assert_close(counts / 20_000, weights, rtol=0, atol=0.012)
    assert counts[1] == 0


@pytest.mark.parametrize("sampler", [FineMixtureSampler(), LocalSampler()], ids=["fine_mixture", "local"])
def test_classes_keep_their_shares_in_every_batch(sampler: LocalSampler | FineMixtureSampler) -> None:
    labels = torch.arange(600) % 6 // 3  # halves, far apart
    mu = torch.randn(600, 3, generator=seeded()) + 100 * labels[:, None]
    fitted = sampler.fit(Codes(mu, labels=labels))
    for seed in range(5):
        z = fitted.sample(100, seeded(seed))
        assert int((z[:, 0] > 50).sum()) == 50
        assert 15 < int((z[:50, 0] > 50).sum()) < 35, "in random order"


def test_the_scale_of_a_mixture_and_its_order_are_right_for_any_n() -> None:
    mu = torch.randn(500, 2, generator=seeded()) * torch.tensor([1.0, 3.0])
    fitted = MixtureSampler(n_components=3).fit(Codes(mu))
    z = torch.cat([fitted.sample(1, seeded(seed)) for seed in range(3000)])
    torch.testing.assert_close(z.std(0), mu.std(0), rtol=0.06, atol=0)
