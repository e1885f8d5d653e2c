"""A mixture for each class: shares, purity and novelty of every class by itself."""

import pytest
import torch
from torch import Generator, Tensor

from geovae.codes import Codes
from geovae.neighbours import code_novelty
from geovae.samplers import FineMixtureSampler
from geovae.samplers.gaussian import LEAST_CLASS, split_by_class

SPREAD = (0.2, 3.0)  # of two classes side by side, one a fifteenth as wide


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def two_classes(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Codes (4 n, 4): n of a tight class at 0, 3 n of a wide one that begins a little away."""
    z = torch.randn(4 * n, 4, generator=seeded(seed))
    labels = (torch.arange(4 * n) >= n).long()
    z *= torch.tensor(SPREAD)[labels][:, None]
    z[labels == 1, 0] = 2 + z[labels == 1, 0].abs()
    return z, labels


@pytest.fixture(scope="module")
def codes() -> Codes:
    mu, labels = two_classes(400, 0)
    held_out, held_out_labels = two_classes(200, 1)
    return Codes(mu, None, held_out=held_out, labels=labels, held_out_labels=held_out_labels)


def test_each_class_is_drawn_in_its_share_and_is_as_novel_as_its_own_new_data(codes: Codes) -> None:
    sampler = FineMixtureSampler().fit(codes)
    z, info = sampler.sample(4000, seeded(), return_info=True)
    tight = z[:, 0] < 1.0  # the gap between the classes
    assert float(tight.double().mean()) == pytest.approx(0.25, abs=0.02)
    assert info.scalars()["n_classes"] == 2
    for part, label in ((z[tight], 0), (z[~tight], 1)):
        own, new = codes.mu[codes.labels == label], codes.held_out[codes.held_out_labels == label]
        assert code_novelty(part, own, new) == pytest.approx(1.0, abs=0.1)


def test_without_labels_the_tight_class_is_drawn_too_wide(codes: Codes) -> None:
    """The median over all codes does not see it: why classes are worth a mixture each."""
    whole = FineMixtureSampler(by_class=False).fit(codes)
    z, info = whole.sample(4000, seeded(), return_info=True)
    assert info.scalars()["n_classes"] == 1
    unlabelled = FineMixtureSampler().fit(Codes(codes.mu, None, held_out=codes.held_out))
    assert torch.equal(unlabelled.sample(4000, seeded()), z)


def test_small_classes_share_a_mixture_and_no_code_is_lost() -> None:
    counts = {0: 200, 1: LEAST_CLASS, 2: LEAST_CLASS - 1, 7: 3, 8: 1}
    labels = torch.cat([torch.full((n,), label) for label, n in counts.items()])
    mu = torch.randn(len(labels), 2, generator=seeded())
    groups = split_by_class(Codes(mu, labels=labels, held_out=mu[:40], held_out_labels=labels[:40]))
    assert [len(group.mu) for group in groups] == [200, LEAST_CLASS, LEAST_CLASS - 1 + 4]
    assert [group.held_out is None for group in groups] == [False, True, True]
    assert torch.isfinite(FineMixtureSampler().fit(Codes(mu, labels=labels)).sample(50, seeded())).all()
    alone = Codes(mu[:9], labels=torch.arange(9))
    assert [len(group.mu) for group in split_by_class(alone)] == [9]


def test_the_density_is_that_of_all_classes_together(codes: Codes) -> None:
    sampler = FineMixtureSampler().fit(codes)
    parts = [FineMixtureSampler().fit(group) for group in split_by_class(codes)]
    densities = torch.stack([part.log_density(codes.held_out) for part in parts])
    expected = (densities + torch.tensor([[0.25], [0.75]]).double().log()).logsumexp(0)
    torch.testing.assert_close(sampler.log_density(codes.held_out), expected, rtol=1e-8, atol=1e-8)
