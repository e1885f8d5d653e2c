"""The sections of `gpu.py`: each yields pairs of a case and a function that measures it and returns its row.

Times are medians of wall seconds with the GPU waited for; `spread` is the lowest and the highest. Data are random but
for `loss` and `table1`, which read the idx files of Fashion-MNIST and MNIST.
"""

import argparse
import itertools
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from benchmarks import models, sampler
from geovae.data.builders.idx import read_idx
from geovae.devices import float32_products, full_precision
from geovae.geometry import LatentMetric
from geovae.models import build_model
from geovae.neighbours import nearest
from geovae.samplers import chains
from geovae.samplers.chains import Kernel, run_chains
from geovae.samplers.hmc import Parameters
from geovae.samplers.volume import FusedTransition, VolumeDensity, fuses
from geovae.training import Trainer

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
Row = dict[str, Any]
Cases = Iterator[tuple[str, Callable[[], Row]]]
MODES: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32", "channels_last": False},
    "tf32": {"precision": "tf32", "channels_last": False},
    "tf32 channels-last": {"precision": "tf32", "channels_last": True},
    "bf16": {"precision": "bf16", "channels_last": False},
    "bf16 channels-last": {"precision": "bf16", "channels_last": True},
    "auto": {},
}


def wait() -> None:
    """Wait for the GPU."""
    if CUDA:
        torch.cuda.synchronize()


def timed(action: Callable[[], object], repeats: int) -> Row:
    """Return the first call's seconds, and the median and spread of `repeats` further ones."""
    times = []
    for _ in range(repeats + 1):
        wait()
        started = time.perf_counter()
        action()
        wait()
        times.append(time.perf_counter() - started)
    rest = times[1:] or times
    return {"seconds": statistics.median(rest), "spread": [min(rest), max(rest)], "first": times[0]}


def ceilings(options: argparse.Namespace) -> Cases:
    """The machine, and what its memory and its matrix units reach."""
    size = 256 if options.dry else 8192

    def machine() -> Row:
        gpu = {"gpu": torch.cuda.get_device_name(), "gib": torch.cuda.mem_get_info()[1] / 2**30} if CUDA else {}
        matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        return {"torch": torch.__version__, "tf32_by_default": [matmul, cudnn], **gpu}

    def product(dtype: torch.dtype, tf32: bool) -> Row:
        a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
        with float32_products(tf32=tf32):
            row = timed(lambda: [a @ b for _ in range(5)], 3)
        return {**row, "tflops": 10 * size**3 / row["seconds"] / 1e12}

    def copy() -> Row:
        a = torch.randn(size * size * 16, device=DEVICE)
        b = torch.empty_like(a)
        row = timed(lambda: [b.copy_(a) for _ in range(10)], 3)
        return {**row, "tb_per_second": 80 * a.numel() / row["seconds"] / 1e12}

    yield "machine", machine
    yield "copy", copy
    for name, dtype, tf32 in (
        ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):
        yield f"product {name}", lambda dtype=dtype, tf32=tf32: product(dtype, tf32)


# ---- sampling


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
    yield "default sampler: fit, and 1000 draws", lambda: whole_sampler(options)
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


def whole_sampler(options: argparse.Namespace) -> Row:
    """The default sampler on 5,000 random codes: its fit with the warm-up, and a draw."""
    from geovae.codes import Codes
    from geovae.samplers import SAMPLERS

    n, generator = 100 if options.dry else 5000, Generator().manual_seed(0)
    mu = torch.randn(n, 16, generator=generator).to(DEVICE)
    codes = Codes(mu, torch.full_like(mu, -2.0))
    found: Row = {}
    for attempt in ("first", "second"):
        built: Any = SAMPLERS["riemannian"](n_centroids=50, centroids="random")
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


# ---- training


def training(options: argparse.Namespace) -> Cases:
    """Images a second of conv32, width 128, in every mode, beside a bare loop."""
    width, sizes = (2, ((8, 2),)) if options.dry else (128, ((100, 40), (1000, 5)))
    for batch, steps in sizes:
        images = torch.randint(0, 256, (batch * steps, 1, 32, 32), dtype=torch.uint8, device=DEVICE)
        for name, mode in MODES.items():
            yield f"{name}, batch {batch}", lambda i=images, m=mode, b=batch: rate(i, b, width, **m)
        yield f"bare loop, torch's defaults, batch {batch}", lambda i=images, b=batch: bare(i, b, width)


def rate(images: Tensor, batch: int, width: int, network: str = "conv32", **training: Any) -> Row:
    """Return images/s of our loop."""
    model = build_model("vae", (1, 32, 32), latent_dim=16, network=network, width=width).to(DEVICE)
    trainer = Trainer(epochs=4, batch_size=batch, **training)
    state = trainer.start(model)
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    seconds = [record.seconds for record in trainer.run(state, images, images[:1])]
    rates = [len(images) / s for s in seconds[2:]]
    memory = {"gib": torch.cuda.max_memory_allocated() / 2**30} if CUDA else {}
    used = trainer.arithmetic(model)
    row = {"images_per_second": statistics.median(rates), "spread": [min(rates), max(rates)], "first": seconds[0]}
    return {**row, "used": used.precision, "layout": str(used.layout), **memory}


def bare(images: Tensor, batch: int, width: int) -> Row:
    """Return images/s of the least loop that trains."""
    model = build_model("vae", (1, 32, 32), latent_dim=16, network="conv32", width=width).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    generator = Generator(DEVICE).manual_seed(0)

    def epoch() -> None:
        for chosen in torch.randperm(len(images), generator=generator, device=DEVICE).split(batch):
            loss = model.loss(images[chosen].float() / 255, generator)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    row = timed(epoch, 3)
    return {"images_per_second": len(images) / row["seconds"], "spread": [len(images) / s for s in row["spread"]]}


STEPS = ("vae", "wae", "rae_gp", "hvae, 1 leapfrog step", "rhvae, 1 leapfrog step", "rhvae, 3 leapfrog steps")


def steps(options: argparse.Namespace) -> Cases:
    """One step of each model beside the VAE's: mlp at width 1000, where launches count, and conv32."""
    cases = (
        (("mlp", 8, ("fp32", "bf16")),)
        if options.dry
        else (("mlp", 1000, ("fp32", "bf16")), ("conv32", 128, ("bf16",)))
    )
    for network, width, precisions in cases:
        for precision in precisions:
            for key in STEPS:
                name, chosen = models.CASES[key]
                made = {"network": network, "width": width, **chosen}
                yield f"{network}, {precision}: {key}", lambda n=name, o=made, p=precision: one_step(n, o, p, options)


def one_step(name: str, made: dict[str, Any], precision: str, options: argparse.Namespace) -> Row:
    """Return the seconds of a step."""
    count = 2 if options.dry else 50
    images = torch.randint(0, 256, (100 * count, 1, 32, 32), dtype=torch.uint8, device=DEVICE)
    found: Row = {}
    for graphs in (False, True):
        model = build_model(name, (1, 32, 32), latent_dim=16, **made).to(DEVICE)
        trainer = Trainer(epochs=4, batch_size=100, precision=precision, graphs=graphs)
        model.end_epoch = lambda images: None  # not of a step
        seconds = [record.seconds for record in trainer.run(trainer.start(model), images, images[:1])]
        found |= {"ms graphs" if graphs else "ms": 1e3 * statistics.median(seconds[1:]) / count}
    return found


def compile_(options: argparse.Namespace) -> Cases:
    """What torch.compile gains after its first epoch, and what that costs."""
    if options.dry:
        return
    for network, width, batch in (("conv32", 128, 100), ("mlp", 1000, 100)):
        images = torch.randint(0, 256, (batch * 40, 1, 32, 32), dtype=torch.uint8, device=DEVICE)
        for name in ("bf16 channels-last", "tf32"):
            mode = {**MODES[name], "channels_last": network == "conv32" and MODES[name]["channels_last"]}
            for compiled in (False, True):
                case = f"{network}, {name}, batch {batch}, compile {compiled}"
                yield (
                    case,
                    lambda i=images, b=batch, w=width, n=network, m=mode, c=compiled: rate(i, b, w, n, compile=c, **m),
                )


# ---- data sets


def read_images(folder: Path, name: str, part: str, dry: bool) -> Tensor:
    """Return images (n, 1, 32, 32) of the idx files, or random ones in a dry run without the files."""
    path = folder / name / f"{part}-images-idx3-ubyte.gz"
    if dry and not path.exists():
        return torch.randint(0, 256, (60, 1, 32, 32), dtype=torch.uint8, generator=Generator().manual_seed(0))
    images = torch.from_numpy(read_idx(path).copy())[:, None]
    return torch.nn.functional.pad(images, (2, 2, 2, 2))[: 60 if dry else None]


def loss(options: argparse.Namespace) -> Cases:
    """Validation loss of Fashion-MNIST in every precision, over three seeds: 50,000 images, conv32 of width 64."""
    images = read_images(options.data, "fashion-mnist", "train", options.dry).to(DEVICE)
    cut = len(images) * 5 // 6
    width, batch = (2, 20) if options.dry else (64, 100)

    def train(mode: dict[str, Any], seed: int) -> Row:
        model = build_model("vae", (1, 32, 32), latent_dim=16, network="conv32", width=width, seed=seed).to(DEVICE)
        trainer = Trainer(epochs=1 if options.dry else options.epochs, batch_size=batch, **mode)
        records = list(trainer.run(trainer.start(model, seed=seed), images[:cut], images[cut:]))
        losses = [record.val["loss"] for record in records]
        return {
            "val_loss": losses,
            "seconds": sum(r.seconds for r in records),
            "used": trainer.arithmetic(model).precision,
        }

    for seed in range(1 if options.dry else 3):
        for name in ("fp32", "auto", "tf32"):
            yield f"{name}, seed {seed}", lambda m=MODES[name], s=seed: train(m, s)


def table1(options: argparse.Namespace) -> Cases:
    """Fashion-MNIST and MNIST, 60,000 images, conv32 of width 64: every sampler at 10,000 samples."""
    from geovae.codes import encode_images
    from geovae.evaluation import Scorer
    from geovae.samplers import SAMPLERS
    from geovae.saved_model import SavedModel

    n, epochs, width = (20, 1, 2) if options.dry else (10_000, 12, 64)
    for data, name in itertools.product(("fashion-mnist", "mnist"), ("vae", "ae", "rae_l2")):
        train, test = (read_images(options.data, data, part, options.dry) for part in ("train", "t10k"))
        extractor = f"{data}-net-v1" if not options.dry else "pixels"
        held: dict[str, Any] = {}

        def fit(name: str = name, train: Tensor = train, held: dict[str, Any] = held) -> Row:
            model = build_model(name, (1, 32, 32), latent_dim=16, network="conv32", width=width).to(DEVICE)
            cut = len(train) * 9 // 10
            trainer = Trainer(epochs=epochs, batch_size=20 if options.dry else 200)
            state = trainer.start(model)
            seconds = sum(r.seconds for r in trainer.run(state, train[:cut].to(DEVICE), train[cut:].to(DEVICE)))
            held["model"] = state.load_best()
            held["codes"] = encode_images(held["model"], train[:cut].to(DEVICE))
            return {"seconds": seconds, "val_loss": state.best_record.val["loss"]}

        def score(
            sampler_name: str, test: Tensor = test, held: dict[str, Any] = held, extractor: str = extractor
        ) -> Row:
            saved = SavedModel(held["model"], held["codes"], {})
            started = time.perf_counter()
            fitted = SAMPLERS[sampler_name]().fit(saved.codes)
            images = saved.decode(fitted.sample(n, Generator().manual_seed(0)))
            drawn = time.perf_counter() - started
            scorer = Scorer(extractor, ["frechet", "precision_recall"], device=DEVICE, batch_size=500)
            network = scorer.networks[0]
            features = [
                scorer.features((x * 255).round().byte() if x.is_floating_point() else x, network)
                for x in (test[:n], images)
            ]
            return {"draw": drawn, **scorer.score(real=features[0], fake=features[1])}

        yield f"{data} {name} training", fit
        for sampler_name in ("prior", "mixture", "riemannian") if name == "vae" else ("mixture",):
            yield f"{data} {name} {sampler_name}", lambda s=sampler_name, score=score: score(s)


SECTIONS: dict[str, Callable[[argparse.Namespace], Cases]] = {
    "ceilings": ceilings,
    "sampling": sampling,
    "tune": tune,
    "training": training,
    "steps": steps,
    "compile": compile_,
    "loss": loss,
    "table1": table1,
}
