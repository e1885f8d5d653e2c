"""Data to the device, beside a torch DataLoader; the memory that loading a CelebA-like file takes; and `prepare`.

    python benchmarks/data.py [--images 10000] [--batch 100] [--faces 16000] [--rounds 7] [--parts rates memory prepare]

Prints samples/s of each method, and ratios as median [lowest to highest] over rounds; the methods take turns in
every round. `prepare` builds Fashion-MNIST from the files of Debian's package dataset-fashion-mnist, through the entry
point with a new tracking store.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from geovae.data import Split
from geovae.images import to_float

PARTS = ("rates", "memory", "prepare")
# run in a process of its own: loads a file and prints the growth of its peak memory, in bytes for each pixel value
MEASURE = """
import sys, torch
from pathlib import Path
from geovae.data.celeba import read_tensor

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

torch.zeros(9).mul(2)  # what the first operation loads is not the file's
load = {"geovae": read_tensor, "torch.load": lambda path: torch.load(path, weights_only=True)}[sys.argv[1]]
before = peak()
images = load(Path(sys.argv[2]))
print((peak() - before) / images.numel())
"""


def indexed(data: Split, batch: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches of `data`, which lies on the device as uint8, as floats."""
    assert data.labels is not None
    for rows in torch.randperm(len(data), device=device).split(batch):
        yield to_float(data.images[rows]), data.labels[rows]


def loaded(loader: DataLoader, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of a DataLoader over floats, moved to the device."""
    for x, y in loader:
        yield x.to(device, non_blocking=True), y.to(device, non_blocking=True)


def rate(batches: Iterator[tuple[Tensor, Tensor]], device: torch.device) -> float:
    """Return samples a second over one epoch."""
    start, n = time.perf_counter(), 0
    for x, _ in batches:
        n += len(x)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return n / (time.perf_counter() - start)


def spread(values: list[float]) -> str:
    """Return median [lowest to highest]."""
    return f"{statistics.median(values):.3g} [{min(values):.3g} to {max(values):.3g}]"


def compare_rates(n: int, batch: int, rounds: int) -> None:
    """Print samples/s of indexing a tensor and of two DataLoaders, and the ratios."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, labels = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8), torch.arange(n) % 10
    ours = Split(images.to(device), labels.to(device))
    floats = TensorDataset(to_float(images), labels)
    options: dict[str, Any] = {"batch_size": batch, "shuffle": True, "pin_memory": device.type == "cuda"}
    ways: dict[str, Callable[[], Iterator[tuple[Tensor, Tensor]]]] = {
        "indexing": lambda: indexed(ours, batch, device),
        "DataLoader, 0 workers": lambda: loaded(DataLoader(floats, **options), device),
        "DataLoader, 2 workers": lambda: loaded(DataLoader(floats, num_workers=2, **options), device),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        rate(way(), device)  # warm-up
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(rate(way(), device))
    print(f"{n} images 3x32x32, batch {batch}, to {device}, {torch.get_num_threads()} threads, {rounds} rounds")
    for name, values in rates.items():
        line = f"  {name:24} {spread(values)} samples/s"
        if name != "indexing":
            ratios = [a / b for a, b in zip(rates["indexing"], values, strict=True)]
            line += f"; indexing is {spread(ratios)} times as fast"
        print(line)


def compare_memory(n: int, rounds: int) -> None:
    """Print the growth of peak memory for each byte of the uint8 result, for our loading and for torch.load."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train_data.pt"
        torch.save(torch.rand(n, 3, 64, 64), path)
        size = n * 3 * 64 * 64
        print(f"a file of {n} x 3 x 64 x 64 floats ({4 * size / 1e6:.0f} MB; {size / 1e6:.0f} MB as uint8)")
        ratios: dict[str, list[float]] = {"geovae": [], "torch.load": []}
        for _ in range(rounds):
            for name, values in ratios.items():
                command = [sys.executable, "-c", MEASURE, name, str(path)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                values.append(float(done.stdout))
        for name, values in ratios.items():
            print(f"  {name:24} peak memory {spread(values)} times the uint8 size")


def measure_prepare(rounds: int, source: str = "/usr/share/datasets/fashion-mnist") -> None:
    """Print time and peak memory of the whole command that prepares Fashion-MNIST."""
    found: dict[str, list[float]] = {"wall, s": [], "CPU, s": [], "peak memory, MiB": []}
    command = [sys.executable, "-m", "mlflow_projects.prepare", "--dataset=fashion_mnist", f"--source={source}"]
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "PYTHONPATH": str(Path.cwd())}
            start = time.perf_counter()
            running = subprocess.Popen(
                command, cwd=folder, env=os.environ | store, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(running.pid, 0)
            if code := os.waitstatus_to_exitcode(status):
                raise SystemExit(f"prepare ended with {code}")
            found["wall, s"].append(time.perf_counter() - start)
            found["CPU, s"].append(usage.ru_utime + usage.ru_stime)
            found["peak memory, MiB"].append(usage.ru_maxrss / 1024)
    print(f"prepare of Fashion-MNIST (70,000 images), {rounds} rounds, load {os.getloadavg()[0]:.1f}")
    for name, values in found.items():
        print(f"  {name:24} {spread(values)}")


def main() -> None:
    """Read the options, run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--faces", type=int, default=16_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    options = parser.parse_args()
    if "rates" in options.parts:
        compare_rates(options.images, options.batch, options.rounds)
    if "memory" in options.parts:
        compare_memory(options.faces, options.rounds)
    if "prepare" in options.parts:
        measure_prepare(options.rounds)


if __name__ == "__main__":
    main()
