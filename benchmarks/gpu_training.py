"""Training on a GPU for `gpu.py`: images a second, a step of each model, losses, and Table 1.

Data are random but for `loss` and `table1`, which read the idx files of Fashion-MNIST and MNIST.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from benchmarks import models
from benchmarks.gpu_timing import CUDA, DEVICE, Cases, Row, timed
from geovae.codes import encode_images
from geovae.data.builders.idx import read_idx
from geovae.evaluation import Scorer
from geovae.models import build_model
from geovae.samplers import SAMPLERS
from geovae.saved_model import SavedModel
from geovae.training import Trainer

MODES: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32", "channels_last": False},
    "tf32": {"precision": "tf32", "channels_last": False},
    "tf32 channels-last": {"precision": "tf32", "channels_last": True},
    "bf16": {"precision": "bf16", "channels_last": False},
    "bf16 channels-last": {"precision": "bf16", "channels_last": True},
    "auto": {},
}


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


FITTED = ("mixture", "fine_mixture", "local")


def table1(options: argparse.Namespace) -> Cases:
    """Fashion-MNIST and MNIST, 60,000 images, conv32 of width 64: every sampler at 10,000 samples."""
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
            fitted = SAMPLERS[sampler_name]().fit(saved.codes.to(DEVICE))
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
        for sampler_name in ("prior", *FITTED, "riemannian") if name == "vae" else FITTED:
            yield f"{data} {name} {sampler_name}", lambda s=sampler_name, score=score: score(s)
