"""Samplers fit and draw where the codes are: on a GPU, or a stand-in for one, with the draws of the CPU."""

import pytest
import torch
from torch import Generator

from geovae.codes import Codes
from geovae.geometry import geodesics
from geovae.neighbours import code_novelty, k_nearest, nearest
from geovae.samplers import SAMPLERS, LocalSampler
from tests.samplers.test_samplers import make_codes
from tests.stand_in_gpu import StandInGpu

FEW = {  # the stand-in is slow
    "riemannian": {"n_centroids": 20, "n_transitions": 2},
    "rhvae": {"n_transitions": 2, "n_leapfrog": 2},
}


def every_field():
    """Codes with all that a sampler may use."""
    codes, labels = make_codes(), torch.arange(150) % 2
    held_out = make_codes(seed=1).mu
    return Codes(codes.mu, codes.log_var, codes.extras, held_out, labels, labels)


def draw(name, codes):
    sampler = SAMPLERS[name](**FEW.get(name, {}))
    return sampler.fit(codes).sample(40, Generator().manual_seed(0), return_info=True)


def test_codes_move_whole():
    with StandInGpu():
        moved = every_field().to("meta")
        back = moved.to("cpu")
    tensors = [*vars(moved).values(), *moved.extras.values()]
    assert {t.device.type for t in tensors if isinstance(t, torch.Tensor)} == {"meta"}
    assert all(torch.equal(getattr(back, name), getattr(every_field(), name)) for name in ("mu", "held_out", "labels"))
    assert Codes(torch.zeros(2, 2)).to("cpu").log_var is None


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_fits_and_draws_on_the_device_of_its_codes(name):
    expected, info = draw(name, every_field())
    with StandInGpu():
        found, moved_info = draw(name, every_field().to("meta"))
        assert found.device.type == "meta"
        assert torch.equal(found.cpu(), expected)
    assert moved_info.numbers == info.numbers


@pytest.mark.parametrize("shape", ["neighbours", "posterior", "both", "isotropic"])
def test_covariances_and_densities_of_bumps_are_on_the_device(shape):
    z = make_codes(seed=2).mu
    expected = LocalSampler(shape).fit(every_field()).log_density(z)
    with StandInGpu():
        sampler = LocalSampler(shape).fit(every_field().to("meta"))
        assert {t.device.type for t in (sampler._neighbours, sampler._variance, sampler._diagonal)} == {"meta"}
        found = sampler.log_density(z.to("meta"))
        assert torch.equal(found.cpu(), expected)
    assert (found.device.type, found.dtype) == ("meta", torch.float64)


def test_neighbours_and_geodesics_are_found_on_the_device():
    codes, z = every_field(), make_codes(seed=2).mu
    metric = SAMPLERS["riemannian"](**FEW["riemannian"]).fit(codes).metric
    curves = geodesics(metric, z[:3], z[3:6], n_points=8, n_steps=30)
    expected = k_nearest(z, codes.mu, 5), nearest(z, codes.mu), code_novelty(z, codes.mu, codes.held_out)
    with StandInGpu():
        codes, z = codes.to("meta"), z.to("meta")
        assert torch.equal(k_nearest(z, codes.mu, 5).cpu(), expected[0])
        assert all(torch.equal(a, b) for a, b in zip(nearest(z, codes.mu), expected[1], strict=True))
        assert code_novelty(z, codes.mu, codes.held_out) == expected[2]
        metric = SAMPLERS["riemannian"](**FEW["riemannian"]).fit(codes).metric
        assert torch.equal(geodesics(metric, z[:3], z[3:6], n_points=8, n_steps=30).cpu(), curves)


def test_the_stand_in_refuses_what_a_gpu_refuses():
    with StandInGpu():
        a, b = torch.ones(3, device="meta"), torch.ones(3)
        with pytest.raises(RuntimeError, match="on the same device"):
            a + b
        with pytest.raises(RuntimeError, match="on the same device"):
            b[torch.zeros(1, dtype=torch.long, device="meta")]
        with pytest.raises(RuntimeError, match="device type for generator"):
            torch.randn(3, device="meta", generator=Generator())
        assert (a[torch.tensor([0])] * torch.tensor(2.0)).device.type == "meta"
