"""Sampling on a GPU for `gpu.py`: chains in every way, neighbours, whole samplers, and the kernel's blocks.

Data are random.
"""

import argparse
import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from torch import Generator, Tensor

from benchmarks import sampler
from benchmarks.gpu_timing import CUDA, DEVICE, Cases, Row, timed, wait
from geovae.codes import Codes
from geovae.devices import full_precision
from geovae.geometry import LatentMetric
from geovae.neighbours import nearest
from geovae.samplers import SAMPLERS, chains
from geovae.samplers.chains import Kernel, run_chains
from geovae.samplers.hmc import Parameters
from geovae.samplers.volume import FusedTransition, VolumeDensity, fuses


def build_metric(k: int, d: int) -> tuple[LatentMetric, tuple[Tensor, Tensor, float]]:
    """Return the metric of the CPU's benchmark on the device, and what it is made of."""
    centroids, values, rho = sampler.sharp_codes(k, d)
    parts = centroids.to(DEVICE), values.to(DEVICE), rho
    return LatentMetric(*parts[:2], temperature=rho, floor=sampler.FLOOR), parts


def draw(
    metric: LatentMetric, way: str, n: int, transitions: int, leapfrog: int, power: float = 1.0
) -> Callable[[], Tensor]:
    """Return a function that runs n chains in one of the ways: `plain`, `graph` or `fused`."""
    density: Any = VolumeDensity(metric, power)
    if way != "fused":
        density = lambda z: VolumeDensity.__call__(VolumeDensity(metric, power), z)  # noqa: E731 (it has no kernel)
    elif density.launch(n) is None and CUDA:
        raise RuntimeError("no fused kernel here")
    kernel = Kernel(density, Parameters(0.01, leapfrog, torch.ones(metric.d, device=DEVICE)))
    start = metric.centroids[torch.arange(n, device=DEVICE) % metric.k]

    def run() -> Tensor:
        chains.LEAST_TRANSITIONS = 10**9 if way == "plain" else 1
        return run_chains(start, kernel, transitions, Generator(DEVICE).manual_seed(0)).position

    return run


def compare(
    metric: LatentMetric, way: str, n: int, transitions: int, leapfrog: int, repeats: int, power: float = 1.0
) -> Row:
    """Return the time of one way, its memory, and how its draws differ from the plain ones."""
    run = draw(metric, way, n, transitions, leapfrog, power)
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    row = timed(run, repeats)
    if CUDA:
        row["gib"] = (torch.cuda.max_memory_allocated() - before) / 2**30
    few = 3
    ours, plain = draw(metric, way, n, few, leapfrog, power)(), draw(metric, "plain", n, few, leapfrog, power)()
    difference = (ours - plain).abs().amax(1)
    row |= {"same": float((difference < 1e-3).double().mean()), "largest": float(difference.median())}
    return {**row, "n": n, "k": metric.k, "d": metric.d, "transitions": transitions, "leapfrog": leapfrog}


def dense(parts: tuple[Tensor, Tensor, float], n: int, steps: int, scale: float) -> Row:
    """Return the seconds of the published formulation: `steps` leapfrog steps, scaled up."""
    theirs = sampler.Dense(*parts)
    theirs.floor_matrix = theirs.floor_matrix.to(DEVICE)
    z = parts[0][torch.arange(n, device=DEVICE) % len(parts[0])]
    with full_precision():
        row = timed(lambda: [theirs.gradient(z) for _ in range(2 * steps)], 2)
    return {"seconds": row["seconds"] * scale, "measured_steps": steps}


def sampling(options: argparse.Namespace) -> Cases:
    """100 transitions of 10 leapfrog steps, in every way that there is, and the dense published formulation."""
    n, t, steps = (20, 2, 2) if options.dry else (500, 100, 100)
    small = {d: build_metric(100, d) for d in ((16,) if options.dry else (16, 32, 64))}
    many = ((120, 16, 1, 1),) if options.dry else ((100, 64, t, 1), (50_000, 16, 10, 10))
    for d, (_, parts) in small.items():
        yield f"dense k=100 d={d}", lambda p=parts: dense(p, n, steps, 1000 / steps)
    for way in ("plain", "graph", "fused"):  # what may break the GPU's state comes last
        for d, (metric, _) in small.items():
            yield f"{way} k=100 d={d}", lambda m=metric, w=way: compare(m, w, n, t, 10, 3)
        if way != "fused":
            yield f"{way} rhvae k=100 d=16", lambda w=way: compare(full_matrices(), w, n, t, 15, 3, -1.0)
        if way != "graph":
            for k, d, few, scale in many:
                metric, _ = build_metric(k, d)
                row = lambda m=metric, w=way, f=few, s=scale: {"scale": s, **compare(m, w, 20 * n, f, 10, 1)}  # noqa: E731
                yield f"{way} n=10000 k={k} d={d}", row
    yield "fused k=100 d=16, 100 x 15", lambda: compare(small[16][0], "fused", n, t, 15, 3)
    few = {"n_centroids": 50, "centroids": "random"}
    yield "riemannian: fit on 5000 codes, 1000 draws", lambda: whole_sampler(options, "riemannian", 5000, **few)
    for name in ("local", "fine_mixture"):
        yield f"{name}: fit on 60000 codes, 1000 draws", lambda name=name: whole_sampler(options, name, 60_000)
    yield "nearest of 60,000 codes", lambda: all_nearest(options)


def all_nearest(options: argparse.Namespace) -> Row:
    """The nearest other code of each of 60,000 codes, d = 16."""
    codes = torch.randn(100 if options.dry else 60_000, 16, generator=Generator().manual_seed(0)).to(DEVICE)
    return timed(lambda: nearest(codes, codes, exclude=torch.arange(len(codes), device=DEVICE)), 2)


def full_matrices() -> LatentMetric:
    """RHVAE's kind of metric, k = 100, d = 16."""
    centroids, values, _ = sampler.sharp_codes(100, 16)
    matrices = torch.diag_embed(0.01 * values).to(DEVICE)
    kind = {"temperature": 1.5, "floor": 1e-3, "weights": "euclidean", "tensor": "cometric"}
    return LatentMetric(centroids.to(DEVICE), matrices, **kind)  # type: ignore[arg-type]


def whole_sampler(options: argparse.Namespace, name: str, n: int, **chosen: Any) -> Row:
    """A sampler on n random codes: its fit, and a draw, for the first time and again."""
    mu = torch.randn(100 if options.dry else n, 16, generator=Generator().manual_seed(0)).to(DEVICE)
    codes = Codes(mu, torch.full_like(mu, -2.0))
    found: Row = {}
    for attempt in ("first", "second"):
        built: Any = SAMPLERS[name](**chosen)
        found[f"fit_{attempt}"] = timed(lambda b=built: b.fit(codes), 0)["seconds"]
        found[f"draw_{attempt}"] = timed(lambda b=built: b.sample(1000, Generator().manual_seed(0)), 0)["seconds"]
    return found


VARIANTS = [
    (n, k, d, rows, columns, warps, precision)
    for n, k, d, blocks in (
        (500, 100, 16, ((16, 32, 4, "ieee"), (16, 64, 4, "ieee"), (16, 128, 4, "ieee"), (16, 64, 4, "tf32x3"))),
        (500, 100, 64, ((16, 32, 4, "ieee"), (16, 64, 8, "ieee"), (16, 64, 4, "tf32x3"))),
        (10_000, 50_000, 16, ((32, 64, 4, "ieee"), (64, 64, 8, "ieee"), (64, 32, 4, "ieee"), (128, 32, 8, "ieee"))),
        (10_000, 50_000, 16, ((32, 64, 4, "tf32x3"), (64, 64, 8, "tf32x3"), (64, 32, 4, "tf32x3"))),
    )
    for rows, columns, warps, precision in blocks
]


def tune(options: argparse.Namespace) -> Cases:
    """Block sizes of the fused kernel, compiled first, by 8 processes."""
    if options.dry:
        return
    wanted = [i for i, (n, k, d, *_) in enumerate(VARIANTS) if re.search(options.cases, f"n={n} k={k} d={d}")]
    with ProcessPoolExecutor(8, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(compiles, wanted))
    metrics = {(k, d): build_metric(k, d)[0] for k, d in {(k, d) for _, k, d, *_ in VARIANTS}}
    for n, k, d, rows, columns, warps, precision in VARIANTS:
        tuning = {"ROWS": rows, "COLUMNS": columns, "num_warps": warps, "PRECISION": precision}
        case = f"n={n} k={k} d={d}: {rows} x {columns}, {warps} warps, {precision}"
        yield case, lambda m=metrics[k, d], n=n, t=tuning: tuned(m, n, t)


def compiles(index: int) -> bool:
    """Return whether a variant compiles; the result is in Triton's cache on disk."""
    n, k, d, rows, columns, warps, precision = VARIANTS[index]
    metric, _ = build_metric(k, d)
    fused = FusedTransition(metric, 1.0)
    fused.tuning = {"ROWS": rows, "COLUMNS": columns, "num_warps": warps, "PRECISION": precision}
    z = metric.centroids[torch.arange(n, device=DEVICE) % k]
    try:
        fused(chains.State(z, z[:, 0], z), z, z[:, 0], Parameters(0.01, 1, torch.ones(d, device=DEVICE)))
        wait()
    except Exception:  # its measurement says why
        return False
    return True


def tuned(metric: LatentMetric, n: int, tuning: dict[str, Any]) -> Row:
    """Return the time of one transition with given blocks, and the error of its log-density beside float64."""
    assert fuses(metric)
    fused = FusedTransition(metric, 1.0)
    fused.tuning = tuning
    start = metric.centroids[torch.arange(n, device=DEVICE) % metric.k]
    state = chains.init_state(start, metric.log_volume_and_grad)
    noise = chains.draw_noise(start, Generator(DEVICE).manual_seed(0))
    parameters = Parameters(0.01, 10, torch.ones(metric.d, device=DEVICE))
    row = timed(lambda: fused(state, *noise, parameters), 3)
    after, _ = fused(state, *noise, parameters)
    exact = metric.to(dtype=torch.float64).log_volume(after.position.double())
    plain = metric.log_volume(after.position)
    errors = {"error": after.log_density, "plain_error": plain}
    return {**row, **{name: float((value - exact).abs().max()) for name, value in errors.items()}}
