"""Scores beside their peers: pytorch-fid's Frechet distance, PRD by the algorithm of its paper on scikit-learn, and
prdc.

    python benchmarks/scores.py [--repeats 3] [--only frechet prd ...] [--device cuda]

Each measurement runs in a separate process, on one thread. CPU s is process time; memory is the peak above the
memory before the call, inputs included (Linux). Ours and the peer take turns; the ratio is the peer's median over
ours.
"""

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

if "--child" in sys.argv:
    os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from geovae.evaluation import extract, extractor, frechet, frechet_distance, inception, kid, prd, precision_recall
from geovae.evaluation import statistics as moments_of

Job = Callable[[], object]
DIMS = 2048


def features(n: int, dims: int = DIMS) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets like Inception's: non-negative, correlated, the second a little off."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(64, dims, generator=generator)
    real, fake = (torch.randn(n, 64, generator=generator) @ mix for _ in range(2))
    noise = (torch.randn(n, dims, generator=generator) for _ in range(2))
    real, fake = ((x / 8 + z).relu_() for x, z in zip((real, 1.05 * fake), noise, strict=True))
    return real, fake


# --- ours, and the peer's, for each row -----------------------------------------------------------------------------


def frechet_job(n: int, whose: str, device: str) -> Job:
    """From features to the distance, statistics included."""
    real, fake = features(n)
    if whose == "ours":
        real, fake = real.to(device), fake.to(device)
        return lambda: frechet(real=real, fake=fake)["frechet"]
    inception.import_pytorch_fid()
    from pytorch_fid.fid_score import calculate_frechet_distance

    arrays = [x.double().numpy() for x in (real, fake)]

    def peer() -> float:
        moments = [m for x in arrays for m in (np.mean(x, axis=0), np.cov(x, rowvar=False))]
        return float(calculate_frechet_distance(*moments))

    return peer


def distance_job(n: int, whose: str, device: str) -> Job:
    """From statistics to the distance alone: the matrix root against the eigenvalues."""
    real, fake = (moments_of(x.to(device)) for x in features(n))
    if whose == "ours":
        return lambda: frechet_distance(real, fake)
    inception.import_pytorch_fid()
    from pytorch_fid.fid_score import calculate_frechet_distance

    arrays = [m.numpy() for m in (real.mu, real.sigma, fake.mu, fake.sigma)]
    return lambda: float(calculate_frechet_distance(*arrays))


def prd_job(n: int, whose: str, device: str) -> Job:
    """Ten runs of 20 clusters each."""
    real, fake = features(n)
    if whose == "ours":
        real, fake = real.to(device), fake.to(device)
        return lambda: prd(real=real, fake=fake)
    return lambda: reference_prd(real.double().numpy(), fake.double().numpy())


def reference_prd(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """PRD from the text of Sajjadi et al. 2018, step by step: 20 clusters, 10 runs, 1001 angles."""
    from sklearn.cluster import MiniBatchKMeans

    union, precisions, recalls = np.concatenate([fake, real]), [], []
    slopes = np.tan(np.linspace(1e-10, math.pi / 2 - 1e-10, 1001))
    for run in range(10):
        cluster = MiniBatchKMeans(n_clusters=20, n_init=10, random_state=run).fit(union).labels_
        q, p = (np.histogram(part, bins=20, range=(0, 20))[0] / len(real) for part in np.split(cluster, 2))
        alpha = np.array([np.minimum(slope * p, q).sum() for slope in slopes])
        precisions.append(alpha)
        recalls.append(alpha / slopes)
    alpha, beta = np.mean(precisions, axis=0), np.mean(recalls, axis=0)

    def best(weight: float) -> float:
        return float(np.max((1 + weight**2) * alpha * beta / np.maximum(weight**2 * alpha + beta, 1e-12)))

    return {"prd_f8": best(8), "prd_f1_8": best(1 / 8)}


def precision_job(n: int, whose: str, device: str) -> Job:
    """Ours gives k = 3 and k = 5 at once, as published; prdc takes one k a call, so it is called twice."""
    real, fake = features(n)
    if whose == "ours":
        real, fake = real.to(device), fake.to(device)
        return lambda: precision_recall(real=real, fake=fake)
    from prdc import compute_prdc

    def peer() -> dict[str, float]:
        three, five = (compute_prdc(real.numpy(), fake.numpy(), nearest_k=k) for k in (3, 5))
        return {k: float((three if k in ("precision", "recall") else five)[k]) for k in three}

    return peer


def kid_job(n: int, whose: str, device: str) -> Job | None:
    """The full U-statistic with its jackknife; pytorch-fid has no KID."""
    real, fake = (x.to(device) for x in features(n))
    return (lambda: kid(real=real, fake=fake)) if whose == "ours" else None


def extraction_job(name: str, n: int, size: int, whose: str, device: str) -> Job:
    """`extract` against the bare loop over the same network."""
    images = torch.randint(0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    network = (random_inception() if name == "inception" else extractor(name)).to(device)
    if whose == "ours":
        return lambda: extract(images, network, batch_size=50, device=device).shape

    def bare() -> object:
        inner = network.network if name == "inception" else network
        with torch.inference_mode():
            outputs = [inner(x.to(device).float() / 255) for x in images.split(50)]
        return torch.cat([(o[0] if name == "inception" else o).cpu() for o in outputs]).shape

    return bare


def random_inception() -> torch.nn.Module:
    """The Inception network on random weights: the same work as with the published ones."""
    module = inception.import_pytorch_fid()
    import torchvision

    with (
        mock.patch.object(module, "load_state_dict_from_url", return_value={}),
        mock.patch.object(torchvision.models.Inception3, "load_state_dict"),
    ):
        network = module.fid_inception_v3()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(network.state_dict(), path)
        inception.WEIGHTS_SHA256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return extractor("inception", weights=path)


ROWS: dict[str, tuple[str, Callable[[str, str], Job | None]]] = {
    "frechet-1000": ("Frechet, 1000 x 2048, features to distance", lambda w, d: frechet_job(1000, w, d)),
    "frechet-5000": ("Frechet, 5000 x 2048, features to distance", lambda w, d: frechet_job(5000, w, d)),
    "distance-5000": ("Frechet, 5000 x 2048, statistics to distance", lambda w, d: distance_job(5000, w, d)),
    "prd": ("PRD, 10k + 10k x 2048, ten runs", lambda w, d: prd_job(10_000, w, d)),
    "precision": ("precision .. coverage, 10k + 10k x 2048", lambda w, d: precision_job(10_000, w, d)),
    "kid": ("KID, 10k + 10k x 2048, no peer", lambda w, d: kid_job(10_000, w, d)),
    "random-conv": (
        "random-conv-v1, 2000 images 3x32x32",
        lambda w, d: extraction_job("random-conv-v1", 2000, 32, w, d),
    ),
    "inception": ("Inception, 50 images 3x32x32", lambda w, d: extraction_job("inception", 50, 32, w, d)),
}


# --- measuring ------------------------------------------------------------------------------------------------------


def child(row: str, whose: str, device: str) -> None:
    """Measure one cell of the table and print it as JSON."""
    torch.set_num_threads(1)
    job = ROWS[row][1](whose, device)
    if job is None:
        print("{}")
        return
    before = reset_peak()
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    with contextlib.redirect_stdout(io.StringIO()):
        value = job()
    if device != "cpu":
        torch.cuda.synchronize()
    seconds = [clock() - start]
    peak = (memory("VmHWM") - before) / 1024**2
    print(json.dumps({"seconds": seconds, "gib": peak, "value": str(value)}))


def memory(field: str) -> int:
    """VmRSS (held now) or VmHWM (the peak), in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def reset_peak() -> int:
    """Forget the peak so far and return what is held now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def measure(row: str, whose: str, device: str) -> dict:
    """Run one cell in its own process."""
    command = [sys.executable, __file__, "--child", row, whose, "--device", device]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def merged(cells: tuple[dict, ...]) -> dict:
    """One cell of all its repetitions: the seconds together, the largest memory, the first value."""
    if not all("seconds" in c for c in cells):
        return next((c for c in cells if c), {})
    return {**cells[0], "seconds": [c["seconds"][0] for c in cells], "gib": max(c["gib"] for c in cells)}


def cell(found: dict) -> str:
    """Median and range of the seconds, and the memory."""
    if "error" in found:
        return f"failed: {found['error'][:60]}"
    if not found:
        return "-"
    s = found["seconds"]
    return f"{statistics.median(s):.2f} ({min(s):.2f} to {max(s):.2f}), {found['gib']:.2f} GiB"


def main() -> None:
    """Print the table, one row at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="*", choices=list(ROWS), default=list(ROWS))
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child, arguments.device)
        return
    unit = "CPU s" if arguments.device == "cpu" else "s"
    print(
        f"| what | ours, {unit}: median (range), peak memory | peer | ratio | values |\n|---|---|---|---|---|",
        flush=True,
    )
    for row in arguments.only:
        turns = [(measure(row, w, arguments.device) for w in ("ours", "peer")) for _ in range(arguments.repeats)]
        ours, peer = (merged(cells) for cells in zip(*turns, strict=True))
        both = "seconds" in ours and "seconds" in peer
        ratio = f"{statistics.median(peer['seconds']) / statistics.median(ours['seconds']):.2f}" if both else "-"
        values = f"{ours.get('value', '-')} / {peer.get('value', '-')}"
        print(f"| {ROWS[row][0]} | {cell(ours)} | {cell(peer)} | {ratio} | {values} |", flush=True)


if __name__ == "__main__":
    main()
