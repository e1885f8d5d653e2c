"""The cost of the training loop beside a plain torch loop, and `import geovae` beside `import torch`.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/training.py [--rounds 7] [--compile]

Both loops train the same network on the same images, with shuffling and a validation pass; epochs take turns. CPU time
of this process on a CPU, wall time on a GPU. Prints a table of medians [lowest to highest].
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from geovae.models import build_model
from geovae.training import Trainer

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
SHAPE = (1, 32, 32)
NETWORKS = {"mlp, width 1000": {"network": "mlp"}, "conv32, width 16": {"network": "conv32", "width": 16}}


def clock() -> float:
    """Return CPU seconds of this process, or wall seconds once the GPU is done."""
    if CUDA:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def ours(images: Tensor, val: Tensor, options: dict, **training: object) -> Iterator[None]:
    """Train one epoch at each `next`."""
    model = build_model("vae", SHAPE, latent_dim=16, **options).to(DEVICE)
    trainer = Trainer(epochs=10**6, batch_size=100, **training)
    for _ in trainer.run(trainer.start(model), images, val):
        yield


def bare(images: Tensor, val: Tensor, options: dict) -> Iterator[None]:
    """The least that does the same: shuffle, steps, and the validation loss."""
    model = build_model("vae", SHAPE, latent_dim=16, **options).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    generator = Generator(DEVICE).manual_seed(0)
    images, val = images.to(DEVICE), val.to(DEVICE)
    while True:
        model.train()
        for batch in torch.randperm(len(images), generator=generator, device=DEVICE).split(100):
            loss = model.loss(images[batch].float() / 255, generator)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            float(sum(model.loss(batch.float() / 255, generator)["loss"] for batch in val.split(100)))
        yield


def timed(step: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    started = clock()
    step()
    return clock() - started


def spread(values: list[float], form: str = ".3f") -> str:
    """Return the median and the range as text."""
    return f"{statistics.median(values):{form}} [{min(values):{form}} to {max(values):{form}}]"


def compare_epochs(name: str, options: dict, rounds: int) -> None:
    """Print epochs of both loops, in turn."""
    generator = Generator().manual_seed(0)
    images, val = (torch.randint(0, 256, (n, *SHAPE), dtype=torch.uint8, generator=generator) for n in (2000, 400))
    loops = {"ours": ours(images, val, options), "bare": bare(images, val, options)}
    times: dict[str, list[float]] = {key: [] for key in loops}
    for round_ in range(rounds + 1):
        for key in sorted(loops, reverse=bool(round_ % 2)):
            seconds = timed(lambda key=key: next(loops[key]))
            times[key] += [seconds] if round_ else []  # the first round warms up
    ratios = [a / b for a, b in zip(times["ours"], times["bare"], strict=True)]
    print(
        f"| {name} | {spread(times['ours'], '.2f')} | {spread(times['bare'], '.2f')} | {spread(ratios)} |", flush=True
    )


def compare_imports(rounds: int) -> None:
    """Print the import times, each in a fresh process."""
    times: dict[str, list[float]] = {"torch": [], "geovae.models, geovae.training, geovae.samplers": []}
    for _ in range(rounds):
        for name in times:
            code = f"import time; t = time.process_time(); import {name}; print(time.process_time() - t)"
            found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            times[name].append(float(found.stdout))
    torch_times, our_times = times.values()
    ratios = [a / b for a, b in zip(our_times, torch_times, strict=True)]
    print(f"\nimport geovae (models, training, samplers) over import torch: {spread(ratios)}; ", end="")
    print(f"seconds {spread(our_times, '.2f')} and {spread(torch_times, '.2f')}")


def compare_compiled(rounds: int) -> None:
    """Epochs with torch.compile over epochs without, after the first, and what the first takes."""
    images = torch.randint(0, 256, (2000, *SHAPE), dtype=torch.uint8, generator=Generator().manual_seed(0))
    for name, options in NETWORKS.items():
        loops = {c: ours(images, images[:400], options, compile=c) for c in (False, True)}
        first = {}
        for c, loop in loops.items():
            started = time.perf_counter()
            next(loop)
            first[c] = time.perf_counter() - started
        seconds = {c: [timed(lambda loop=loop: next(loop)) for _ in range(rounds)] for c, loop in loops.items()}
        ratios = [a / b for a, b in zip(seconds[True], seconds[False], strict=True)]
        print(f"\n{name}: compiled over plain {spread(ratios)}; ", end="")
        print(f"first epoch {first[True]:.0f} s, plain {first[False]:.1f} s")


def main() -> None:
    """Parse the arguments and print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too: minutes")
    arguments = parser.parse_args()
    print(f"{DEVICE}, torch {torch.__version__}, {torch.get_num_threads()} thread(s)\n")
    print(
        "| vae, 2,000 + 400 images 1x32x32, batch 100 | seconds an epoch, ours | bare loop | ratio |\n|---|---|---|---|"
    )
    for name, options in NETWORKS.items():
        compare_epochs(name, options, arguments.rounds)
    compare_imports(arguments.rounds)
    if arguments.compile:
        compare_compiled(arguments.rounds)


if __name__ == "__main__":
    main()
