"""Speed and memory of the Riemannian sampler beside the dense published formulation and pythae's RHVAESampler.

    python benchmarks/sampler.py [--threads 2] [--repeats 5] [--quick] [--parts all dense pythae mixing gpu]

The dense formulation is written here from the paper's formulas: every Sigma_i^-1 as a (d, d) matrix, (n, k, d, d)
intermediates, the gradient computed twice a leapfrog step. Repeats of both sides alternate; a ratio is
that of one pair. Seconds are those of this process's CPU time, on a GPU those of the wall clock.
Prints tables and writes nothing.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from geovae.geometry import LatentMetric
from geovae.samplers.chains import BumpMixture, Kernel, run_chains
from geovae.samplers.diagnostics import ess_bulk, nested_r_hat, r_hat
from geovae.samplers.hmc import Parameters, local_inverse_mass, warm_up

N, TEMPERATURE_FACTOR, FLOOR = 500, 0.5, 0.01
PARTS = ("all", "dense", "compile", "pythae", "mixing", "gpu")
Clock = Callable[[], float]


def sharp_codes(k: int, d: int, device: str = "cpu") -> tuple[Tensor, Tensor, float]:
    """Return centroids (k, d), inverse variances (k, d) and a temperature at half of the Mahalanobis distances."""
    g = torch.Generator().manual_seed(0)
    centroids = torch.randn(k, d, generator=g)
    values = (0.05 + 0.1 * torch.rand(k, d, generator=g)) ** -2
    near = torch.cdist(centroids[:200], centroids).topk(2, largest=False).values[:, 1].median()
    return centroids.to(device), values.to(device), TEMPERATURE_FACTOR * float(near) / 0.1


class Dense:
    """The published formulation: Eq. 7 in matrices, one gradient at either end of every leapfrog step."""

    def __init__(self, centroids: Tensor, values: Tensor, temperature: float) -> None:
        self.c, self.m = centroids, torch.diag_embed(values)
        self.rho2, self.floor_matrix = temperature**2, FLOOR * torch.eye(centroids.shape[1])

    def weighted(self, z: Tensor) -> Tensor:
        """Return Sigma_i^-1 w_i(z), (n, k, d, d)."""
        delta = (z.unsqueeze(1) - self.c.unsqueeze(0)).unsqueeze(-1)
        squared = (delta.mT @ self.m.unsqueeze(0) @ delta).squeeze(-1).squeeze(-1)
        return self.m.unsqueeze(0) * torch.exp(-squared / self.rho2)[..., None, None]

    def log_volume(self, z: Tensor) -> Tensor:
        """Return log sqrt det G."""
        return 0.5 * torch.logdet(self.weighted(z).sum(1) + self.floor_matrix)

    def gradient(self, z: Tensor) -> Tensor:
        """Return its gradient: sum_i tr(G^-1 Sigma_i^-1 w_i) / 2 * (-2 / rho^2) Sigma_i^-1 (z - c_i)."""
        weighted = self.weighted(z)
        inverse = torch.inverse(weighted.sum(1) + self.floor_matrix)
        traces = (inverse.unsqueeze(1) @ weighted).diagonal(dim1=-2, dim2=-1).sum(-1)
        slopes = (self.m.unsqueeze(0) @ (z.unsqueeze(1) - self.c.unsqueeze(0)).unsqueeze(-1)).squeeze(-1)
        return -(traces.unsqueeze(-1) * slopes).sum(1) / self.rho2

    def clock(self, z: Tensor, n_steps: int) -> Clock:
        """Return a clock of `n_steps` leapfrog steps' gradients, two each."""

        def steps() -> None:
            for _ in range(2 * n_steps):
                self.gradient(z)

        return lambda: seconds(steps)


def seconds(action: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    start = clock()
    action()
    return clock() - start


def clock() -> float:
    """Return CPU seconds of this process, or wall seconds once the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def ours(metric: LatentMetric, n: int, n_transitions: int, n_leapfrog: int, step: float = 0.01) -> Clock:
    """Return a clock of one full run of our sampler: n chains from the centroids."""
    kernel = Kernel(
        metric.log_volume_and_grad, Parameters(step, n_leapfrog, torch.ones(metric.d, device=metric.device))
    )
    start = metric.centroids[torch.arange(n) % metric.k]
    generator = torch.Generator(metric.device).manual_seed(0)
    return lambda: seconds(lambda: run_chains(start, kernel, n_transitions, generator))


def bare_products(metric: LatentMetric, n: int, n_gradients: int) -> Clock:
    """Return a clock of the matrix products that the gradients need, into memory allocated before."""
    k, d = metric.k, metric.d
    x, u, s, h = torch.randn(n, 2 * d), torch.randn(n, d), torch.empty(n, d), torch.empty(n, 2 * d)
    size = k if n * k <= 2**19 else 2**19 // n  # whichever is faster: products that stay in the cache
    pieces = [(torch.randn(2 * d, c), torch.randn(n, c), torch.randn(c, d)) for c in [size] * (k // size)]
    if k % size:
        pieces.append((torch.randn(2 * d, k % size), torch.randn(n, k % size), torch.randn(k % size, d)))
    room, slopes = torch.empty(n, size), torch.randn(size, 2 * d)

    def products() -> None:
        for _ in range(n_gradients):
            for b, w, v in pieces:
                out = room.view(-1)[: w.numel()].view_as(w)
                torch.mm(x, b, out=out)
                torch.mm(w, v, out=s)
                torch.mm(u, v.T, out=out)
                torch.mm(w, slopes[: len(v)], out=h)

    return lambda: seconds(products)


def spread(values: list[float]) -> str:
    """Return median (lowest to highest)."""
    return f"{statistics.median(values):8.3g}  ({min(values):.3g} to {max(values):.3g})"


def compare_dense(dims: list[int], repeats: int) -> None:
    """100 transitions of 10 leapfrog steps; the dense side runs 1 or 2 steps and is scaled up."""
    print(f"\nDense published formulation, n = {N}, k = 100, 100 x 10 leapfrog steps; seconds, median (range)")
    print(f"{'d':>4} {'dense':>28} {'geovae':>28} {'ratio':>28} {'of bare products':>28}")
    for d in dims:
        centroids, values, rho = sharp_codes(100, d)
        dense, metric = Dense(centroids, values, rho), LatentMetric(centroids, values, temperature=rho, floor=FLOOR)
        start = centroids[torch.arange(N) % 100]
        check_same(dense, metric, start + 0.05)
        steps = 2 if d <= 16 else 1
        mine, limit = ours(metric, N, 100, 10), bare_products(metric, N, 1000)
        theirs_clock = dense.clock(start, steps)
        mine(), limit(), theirs_clock()
        rows = [(1000 * theirs_clock() / steps, mine(), limit()) for _ in range(repeats)]
        theirs, fast, bare = (list(column) for column in zip(*rows, strict=True))
        ratio = [a / b for a, b in zip(theirs, fast, strict=True)]
        share = [a / b for a, b in zip(fast, bare, strict=True)]
        print(f"{d:4d} {spread(theirs):>28} {spread(fast):>28} {spread(ratio):>28} {spread(share):>28}", flush=True)


def compare_compiled(dims: list[int], repeats: int) -> None:
    """One gradient of the metric, as it is and through torch.compile, beside its bare products."""
    print(f"\nOne gradient, n = {N}, k = 100; ms, median (range), and as multiples of the bare products")
    print(f"{'d':>4} {'eager':>28} {'multiple':>28} {'torch.compile':>28} {'multiple':>28}")
    for d in dims:
        centroids, values, rho = sharp_codes(100, d)
        metric = LatentMetric(centroids, values, temperature=rho, floor=FLOOR)
        z = centroids[torch.arange(N) % 100] + 0.05
        functions = [metric.log_volume_and_grad, torch.compile(metric.log_volume_and_grad)]
        limit = bare_products(metric, N, 1000)
        times: list[list[float]] = [[], []]
        shares: list[list[float]] = [[], []]
        for repeat in range(repeats + 1):
            bare = limit()
            for i, function in enumerate(functions):
                took = seconds(partial(repeated, function, z, 1000))
                if repeat:  # the first is for compiling
                    times[i].append(took)
                    shares[i].append(took / bare)
        cells = " ".join(f"{spread(a):>28} {spread(b):>28}" for a, b in zip(times, shares, strict=True))
        print(f"{d:4d} {cells}", flush=True)


def repeated(function: Callable[[Tensor], object], z: Tensor, times: int) -> None:
    """Call a function again and again."""
    for _ in range(times):
        function(z)


def check_same(dense: Dense, metric: LatentMetric, z: Tensor) -> None:
    """Stop unless both sides compute the same density and gradient."""
    volume, grad = metric.log_volume_and_grad(z)
    assert torch.allclose(volume, dense.log_volume(z), rtol=1e-3, atol=1e-2)
    assert (grad - dense.gradient(z)).norm() < 1e-2 * grad.norm()


def compare_pythae(ks: list[int], repeats: int) -> None:
    """RHVAESampler at its defaults, 100 transitions of 15 leapfrog steps, d = 16; it runs 1 transition, scaled up."""
    try:
        from pythae.models import RHVAE, RHVAEConfig
        from pythae.samplers import RHVAESampler, RHVAESamplerConfig
    except ImportError as error:
        print(f"\npythae is not installed ({error}): its comparison is left out")
        return
    print(f"\npythae RHVAESampler, n = {N}, d = 16, 100 x 15 leapfrog steps; seconds, median (range)")
    print(
        f"{'k':>6} {'pythae':>28} {'geovae, Eq. 7':>28} {'ratio':>28} {'geovae, its full matrices':>28} {'ratio':>28}"
    )
    for k in ks:
        centroids, values, rho = sharp_codes(k, 16)
        model = RHVAE(RHVAEConfig(input_dim=(1, 8, 8), latent_dim=16))
        model.centroids_tens, model.M_tens = centroids, torch.diag_embed(0.01 * values)
        sampler = RHVAESampler(model, RHVAESamplerConfig(mcmc_steps_nbr=1, n_lf=15, eps_lf=0.03))
        eq7 = ours(LatentMetric(centroids, values, temperature=rho, floor=FLOOR), N, 100, 15)
        full = LatentMetric(
            centroids, model.M_tens, temperature=1.5, floor=1e-3, weights="euclidean", tensor="cometric"
        )
        same = ours(full, N, 10, 15)
        eq7(), same()
        rows = [(100 * seconds(lambda s=sampler: s.hmc_sampling(N)), eq7(), 10 * same()) for _ in range(repeats)]
        theirs, fast, dense = (list(column) for column in zip(*rows, strict=True))
        ratios = [[a / b for a, b in zip(theirs, other, strict=True)] for other in (fast, dense)]
        cells = [theirs, fast, ratios[0], dense, ratios[1]]
        print(f"{k:6d} " + " ".join(f"{spread(c):>28}" for c in cells), flush=True)


def all_codes(repeats: int, k: int = 50_000, d: int = 16) -> None:
    """Every code of a large data set as a centroid: time of the default schedule, and the peak memory."""
    centroids, values, rho = sharp_codes(k, d)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    metric = LatentMetric(centroids, values, temperature=rho, floor=FLOOR)
    mine, limit = ours(metric, N, 1, 10), bare_products(metric, N, 10)
    rows = [(20 * mine(), 20 * limit()) for _ in range(repeats)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"\nAll codes as centroids, n = {N}, k = {k}, d = {d}, 20 x 10 leapfrog steps (1 x 10 measured)")
    print(f"seconds {spread([a for a, _ in rows])}; of bare products {spread([a / b for a, b in rows])}")
    print(f"peak memory of the process {peak / 2**20:.2f} GiB, {(peak - before) / 2**20:.2f} GiB more than before")


def on_gpu(repeats: int) -> None:
    """10,000 samples with the published schedule on a GPU."""
    if not torch.cuda.is_available():
        print("\nno GPU: its table is left out")
        return
    print(f"\n{torch.cuda.get_device_name()}: 10,000 samples, 100 x 10 leapfrog steps; seconds, median (range)")
    for k, d in ((100, 64), (50_000, 16)):
        centroids, values, rho = sharp_codes(k, d, "cuda")
        mine = ours(LatentMetric(centroids, values, temperature=rho, floor=FLOOR), 10_000, 100, 10)
        mine()
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f"k = {k}, d = {d}: {spread([mine() for _ in range(repeats)])}, peak {peak:.2f} GiB", flush=True)


def compare_mixing(repeats: int) -> None:
    """HMC alone and HMC with jumps on the same targets: effective samples a second, R-hats, and mode occupancy."""
    print("\nMixing: 256 chains in 16 groups from the first half of the modes, 40 transitions of 10 steps; medians")
    print(f"{'target':>22} {'kernel':>12} {'ESS/s':>9} {'nested R-hat':>13} {'R-hat':>7} {'occupancy error':>16}")
    for name, metric in mixing_targets().items():
        for n_jumps in (0, 1):
            runs = [mixing_run(metric, n_jumps, seed) for seed in range(repeats)]
            ess, nested, plain, error = (statistics.median(c) for c in zip(*runs, strict=True))
            kernel = f"HMC + {n_jumps} jump" if n_jumps else "HMC"
            print(f"{name:>22} {kernel:>12} {ess:9.0f} {nested:13.2f} {plain:7.2f} {error:16.3f}", flush=True)


def mixing_targets() -> dict[str, LatentMetric]:
    """Return four islands in 2 dimensions, whose occupancy is known, and separate and overlapping bumps in 8."""
    c = torch.tensor([[-4.0, 0.0], [4.0, 1.0], [0.0, 5.0], [3.0, -4.0]])
    v = torch.tensor([[4.0, 1.0], [1.0, 9.0], [2.0, 2.0], [1.0, 1.0]])
    targets = {"4 islands, d = 2": LatentMetric(c, v, temperature=1.1, floor=1e-4, decay=0.05)}
    centroids, values, rho = sharp_codes(100, 8)
    for name, scale in (("separate, d = 8", 0.6), ("overlapping, d = 8", 1.5)):
        targets[name] = LatentMetric(centroids, values, temperature=scale * rho, floor=0.01, decay=0.05)
    return targets


def mixing_run(metric: LatentMetric, n_jumps: int, seed: int) -> tuple[float, float, float, float]:
    """Return ESS a second, nested R-hat and R-hat, the worst dimension, and the largest error of a mode's share."""
    generator = torch.Generator().manual_seed(seed)
    inverse_mass = local_inverse_mass(1 / metric.values)
    parameters, _ = warm_up(
        metric.centroids.repeat(2, 1), metric.log_volume_and_grad, n_leapfrog=10, inverse_mass=inverse_mass,
        generator=generator,
    )  # fmt: skip
    kernel = Kernel(metric.log_volume_and_grad, parameters, BumpMixture(metric), n_jumps)
    start = metric.centroids[torch.arange(16) % max(metric.k // 2, 1)].repeat_interleave(16, dim=0)
    begin = clock()
    trace = run_chains(start, kernel, 40, generator, keep=True)
    elapsed = clock() - begin
    assert trace.positions is not None
    draws = trace.positions.double().unbind(2)
    return (
        min(ess_bulk(d) for d in draws) / elapsed,
        max(nested_r_hat(d, 16) for d in draws),
        max(r_hat(d) for d in draws),
        occupancy_error(metric, trace.position),
    )


def occupancy_error(metric: LatentMetric, z: Tensor, side: float = 12.0, size: int = 800) -> float:
    """Return the largest difference between the share of chains nearest a centroid and the exact one on a grid."""
    if metric.d != 2:
        return float("nan")
    axis = (torch.arange(size) + 0.5) / size * 2 * side - side
    cells = torch.cartesian_prod(axis, axis)
    mass = metric.log_volume(cells).exp().double()
    modes = torch.cdist(cells, metric.centroids).argmin(1)
    exact = torch.zeros(metric.k, dtype=torch.float64).index_add_(0, modes, mass / mass.sum())
    found = torch.bincount(torch.cdist(z, metric.centroids).argmin(1), minlength=metric.k) / len(z)
    return float((found - exact).abs().max())


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the smallest sizes only")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, python {sys.version.split()[0]}, {options.threads} threads")
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    if "all" in options.parts:
        all_codes(options.repeats)  # first: the peak of the process is what it reports
    if "dense" in options.parts:
        compare_dense([16] if options.quick else [16, 32, 64], options.repeats)
    if "compile" in options.parts:
        compare_compiled([16] if options.quick else [16, 32, 64], options.repeats)
    if "pythae" in options.parts:
        compare_pythae([100] if options.quick else [100, 1000], options.repeats)
    if "mixing" in options.parts:
        compare_mixing(options.repeats)
    if "gpu" in options.parts:
        on_gpu(options.repeats)


if __name__ == "__main__":
    main()
