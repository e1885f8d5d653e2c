"""Nearest neighbours and squared distances, against brute force and autograd."""

import pytest
import torch

from geovae.neighbours import code_novelty, nearest, squared_distances


def test_squared_distances_and_their_gradient(generator):
    a, b = (torch.randn(n, 4, generator=generator, dtype=torch.float64, requires_grad=True) for n in (6, 5))
    torch.testing.assert_close(squared_distances(a, b), torch.cdist(a, b).square())
    assert torch.autograd.gradcheck(squared_distances, (a, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearest_equals_brute_force(dtype, generator, device, monkeypatch):
    monkeypatch.setattr("geovae.neighbours.BLOCK", 16)
    queries = torch.randn(50, 7, generator=generator, dtype=torch.float64).to(dtype)
    reference = torch.randn(70, 7, generator=generator, dtype=torch.float64).to(dtype)
    found, expected = nearest(queries, reference.to(device)), torch.cdist(queries.double(), reference.double()).min(1)
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.distances, expected.values)


def test_excluded_rows_are_not_matched(generator, monkeypatch):
    monkeypatch.setattr("geovae.neighbours.BLOCK", 16)
    x = torch.randn(50, 3, generator=generator)
    chosen = torch.arange(0, 50, 7)
    expected = torch.cdist(x, x).fill_diagonal_(torch.inf).min(dim=1)
    found = nearest(x[chosen], x, exclude=chosen)
    assert torch.equal(found.indices, expected.indices[chosen])
    torch.testing.assert_close(found.distances.float(), expected.values[chosen])


def test_a_copy_is_at_distance_zero_even_far_from_the_origin(generator):
    x = torch.randn(40, 20, generator=generator) + 1e3
    found = nearest(x.flip(0), x)
    assert torch.equal(found.indices, torch.arange(39, -1, -1))
    assert float(found.distances.max()) == 0.0


def test_bytes_count_as_images(generator):
    x = torch.randint(0, 256, (30, 12), generator=generator, dtype=torch.uint8)
    found, expected = nearest(x[:10], x[10:]), nearest(x[:10].double() / 255, x[10:].double() / 255)
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.distances, expected.distances)


def test_code_novelty_is_the_ratio_of_the_two_medians(generator, monkeypatch):
    monkeypatch.setattr("geovae.neighbours.BLOCK", 16)
    latents, codes, held_out = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (31, 40, 21))
    of_latents, of_held_out = (torch.cdist(x, codes).min(dim=1).values.median() for x in (latents, held_out))
    assert code_novelty(latents, codes, held_out) == pytest.approx(float(of_latents / of_held_out))
    # without held-out codes: each of every second code (40 // 16) and the other 39
    spacing = torch.cdist(codes, codes).fill_diagonal_(torch.inf).min(dim=1).values[::2].median()
    assert code_novelty(latents, codes) == pytest.approx(float(of_latents / spacing))


def test_code_novelty_of_new_data_scaled_noise_and_copies(generator):
    codes, new = torch.randn(4000, 8, generator=generator), torch.randn(4000, 8, generator=generator)
    assert code_novelty(new[:2000], codes, new[2000:]) == pytest.approx(1.0, abs=0.03)
    assert code_novelty(new, codes) == pytest.approx(1.0, abs=0.03)
    assert code_novelty(codes[:50], codes, new) == 0.0
    assert code_novelty(codes[:500] + 0.01 * new[:500], codes, new) < 0.1
    same = torch.ones(5, 3)
    assert code_novelty(same, same) == 1.0
    assert code_novelty(same + 1, same) == float("inf")


def test_bad_input(generator):
    x = torch.randn(5, 3, generator=generator)
    with pytest.raises(ValueError, match="differ in width: 3 and 2"):
        nearest(x, x[:, :2])
    with pytest.raises(ValueError, match="`reference` must have at least 2 rows, got 1"):
        nearest(x[:1], x[:1], exclude=torch.tensor([0]))
    with pytest.raises(ValueError, match="`queries` has 1 of 5 rows with NaN"):
        nearest(torch.where(torch.arange(5)[:, None] == 2, torch.nan, x), x)
    with pytest.raises(ValueError, match=r"`queries` must be of shape \(n, d\)"):
        nearest(x[0], x)
    with pytest.raises(ValueError, match="`reference` must have at least 2 rows, got 1"):
        code_novelty(x, x[:1])
