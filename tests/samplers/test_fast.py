"""The fast ways of a GPU through a chain: recorded graphs, and the kernel of a whole transition."""

from typing import ClassVar

import pytest
import torch
from torch import Generator

from geovae.geometry import LatentMetric
from geovae.samplers import chains, volume
from geovae.samplers.chains import Kernel, run_chains
from geovae.samplers.hmc import Parameters, draw_noise, init_state, transition
from geovae.samplers.volume import FusedTransition, VolumeDensity, fuses, works


def metric(k=30, d=5, device="cpu", **options):
    generator = Generator().manual_seed(0)
    centroids = torch.randn(k, d, generator=generator).to(device)
    values = (1 + torch.rand(k, d, generator=generator)).to(device)
    return LatentMetric(centroids, values, **{"temperature": 0.8, "floor": 0.01, **options})


def kernel_of(metric, density=None, **options):
    inverse_mass = torch.linspace(0.5, 1.5, metric.d).to(metric.device)
    return Kernel(density or metric.log_volume_and_grad, Parameters(0.1, 4, inverse_mass), **options)


def trace_of(kernel, start, n=6):
    return run_chains(start, kernel, n, Generator().manual_seed(3), keep=True)


class Overwriting:
    """Stand in for a graph: results live in memory that the next call overwrites."""

    recorded: ClassVar[list] = []

    def __init__(self, function, **options):
        self.function, self.places = function, None

    def __call__(self, *tensors):
        self.recorded.append(tuple(tensors[0].shape))
        results = self.function(*tensors)
        self.places = self.places or tuple(t.clone() for t in results)
        for place, result in zip(self.places, results, strict=True):
            place.copy_(result)
        return self.places


def test_recorded_chains_are_the_plain_ones(monkeypatch):
    target = metric()
    start = target.centroids.repeat(2, 1)
    expected = trace_of(kernel_of(target), start)
    monkeypatch.setattr(chains, "Recorder", Overwriting)
    kernel = kernel_of(target)
    found = [trace_of(kernel, start), trace_of(kernel, start)]
    for trace in found:  # read after the second run: the first keeps its numbers
        for name, value in vars(expected).items():
            assert torch.equal(getattr(trace, name), value), name


def test_short_chains_are_not_recorded(monkeypatch):
    monkeypatch.setattr(chains, "Recorder", Overwriting)
    monkeypatch.setattr(Overwriting, "recorded", [])
    kernel = kernel_of(metric())
    for n, transitions in ((10, 3), (10, 4), (7, 2)):
        trace_of(kernel, metric().centroids[:n], transitions)
    assert Overwriting.recorded == [(10, 5)] * 4


def test_recorded_chains_on_a_gpu_are_the_plain_ones(device):
    target = metric(device=device, weights="euclidean", tensor="cometric")
    kernel = kernel_of(target)
    plain = [trace_of(kernel, target.centroids, n) for n in (2, 3)]  # too short to be recorded
    for _ in range(2):
        long = trace_of(kernel, target.centroids, 6)
        torch.testing.assert_close(long.positions[:3], plain[1].positions)
    (recorder,) = kernel._recorders.values()
    assert (recorder._graph is not None) == (device.type == "cuda")


def test_the_kernel_fits_eq_7_in_float32(monkeypatch):
    monkeypatch.setattr(volume, "transition_kernel", object())
    assert fuses(metric())
    unfit = [{"decay": 0.1}, {"weights": "euclidean"}, {"tensor": "cometric"}]
    assert not any(fuses(metric(**options)) for options in unfit)
    assert not fuses(metric().to(dtype=torch.float64))
    assert not fuses(metric(d=129))
    full = LatentMetric(torch.zeros(1, 2), torch.eye(2)[None], temperature=1.0, floor=0.1)
    assert not fuses(full)
    monkeypatch.setattr(volume, "transition_kernel", None)
    assert not fuses(metric())


def test_a_kernel_that_does_not_compile_is_left_out(monkeypatch):
    class Broken:
        def __getitem__(self, grid):
            raise RuntimeError("no C compiler")

    monkeypatch.setattr(volume, "transition_kernel", Broken())
    with pytest.warns(UserWarning, match="without the fused kernel, which Triton cannot compile here: no C compiler"):
        assert not works(FusedTransition(metric(), 1.0))


def test_a_density_computes_its_own_transition_if_it_can():
    density = VolumeDensity(metric())
    assert density.launch(10) is None  # on a CPU
    vars(density)["_fused"] = own = lambda *arguments: arguments
    own.choose_blocks = lambda n: {} if n > 5 else None
    assert transition("state", "noise!", "uniform", density, "parameters") == (
        "state",
        "noise!",
        "uniform",
        "parameters",
    )
    assert density.launch(5) is None


@pytest.mark.parametrize(
    ("k", "d", "n", "rows"),
    [
        (100, 16, 500, 16),
        (100, 64, 10_000, 32),
        (50_000, 16, 10_000, 64),
        (50_000, 16, 500, None),
        (5000, 64, 9000, None),
    ],
)
def test_many_centroids_are_left_to_the_plain_products_unless_there_are_many_chains(k, d, n, rows):
    blocks = FusedTransition(metric(k, d), 1.0).choose_blocks(n)
    assert (blocks and blocks["ROWS"]) == rows


@pytest.mark.parametrize(("k", "d", "n"), [(30, 5, 20), (100, 16, 50), (130, 20, 17), (5, 64, 40), (1100, 16, 8200)])
@pytest.mark.parametrize("power", [1.0, 0.3])
@pytest.mark.filterwarnings("ignore::DeprecationWarning:triton.*", "ignore:divide by zero:RuntimeWarning")  # NumPy's
def test_the_fused_transition_is_the_plain_one(device, k, d, n, power):
    """Compiled on a GPU; elsewhere by Triton's interpreter, with TRITON_INTERPRET=1."""
    triton = pytest.importorskip("triton")
    if device.type == "cpu" and not triton.knobs.runtime.interpret:
        pytest.skip("Triton compiles for GPUs only; TRITON_INTERPRET=1 interprets")
    target = metric(k, d, device)
    density, fused = VolumeDensity(target, power), FusedTransition(target, power)
    generator = Generator().manual_seed(1)
    points = target.centroids[torch.arange(n) % k] + 0.3 * torch.randn(n, d, generator=generator).to(device)
    state = init_state(points, density)
    noise, uniform = draw_noise(points, generator)
    uniform[0] = 0.0  # accepted whatever happens
    state.log_density[1] = 1e6  # diverges
    parameters = Parameters(0.2, 3, torch.linspace(0.5, 1.5, d).to(device))
    plain = VolumeDensity.__call__
    expected = transition(state, noise, uniform, lambda z: plain(density, z), parameters)
    found = fused(state, noise, uniform, parameters)
    clear = (uniform.log() - (-expected[1].energy_error).clamp(max=0.0)).abs() > 1e-3  # no near tie
    assert clear.float().mean() > 0.9
    for a, b in zip((*found[0], *found[1]), (*expected[0], *expected[1]), strict=True):
        torch.testing.assert_close(a[clear], b[clear], rtol=1e-3, atol=1e-3)
    assert found[1].diverged[1]
    assert not found[1].accepted.all()


def test_chains_on_a_gpu_are_those_of_the_cpu(device):
    target = metric(device=device)
    traces = [trace_of(kernel_of(t, VolumeDensity(t)), t.centroids) for t in (target, metric())]
    same = (traces[0].position.cpu() - traces[1].position).abs().amax(1) < 1e-3
    assert same.float().mean() > 0.9
