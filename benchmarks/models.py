"""Each model's training step as a multiple of the VAE's, RHVAE's memory with many centroids, and images/s on a GPU.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/models.py [--rounds 9] [--widths 1000 4]

One step is loss, gradients and fused Adam at d = 16, batch 100, images 1x32x32; models take turns in every round. CPU
time of this process on a CPU, wall time on a GPU. Prints medians [lowest to highest]; ratios are taken within a round.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Generator

from geovae.models import build_model
from geovae.training import Trainer

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
SHAPE, BATCH, D = (1, 32, 32), 100, 16
EXACT = {"through_force": True}
CASES: dict[str, tuple[str, dict]] = {
    "vae": ("vae", {}),
    "ae": ("ae", {}),
    "wae": ("wae", {}),
    "rae": ("rae", {}),
    "rae_l2": ("rae_l2", {}),
    "rae_gp": ("rae_gp", {}),
    "rae_sn": ("rae_sn", {}),
    "vamp, 500 pseudo-inputs": ("vamp", {}),
    "vamp, 100 pseudo-inputs": ("vamp", {"n_pseudo_inputs": 100}),
    "hvae, 1 leapfrog step": ("hvae", {}),
    "hvae, 3 leapfrog steps": ("hvae", {"n_leapfrog": 3}),
    "rhvae, 1 leapfrog step": ("rhvae", {}),
    "rhvae, 3 leapfrog steps": ("rhvae", {"n_leapfrog": 3}),
    "hvae, 1 step, exact gradient": ("hvae", EXACT),
    "hvae, 3 steps, exact gradient": ("hvae", {"n_leapfrog": 3, **EXACT}),
    "rhvae, 1 step, exact gradient": ("rhvae", EXACT),
    "rhvae, 3 steps, exact gradient": ("rhvae", {"n_leapfrog": 3, **EXACT}),
}
CENTROIDS = """
import resource, torch
from geovae.models import build_model
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = build_model("rhvae", (1, 32, 32), network="mlp", latent_dim=16, n_centroids={k})
images = torch.randint(0, 256, (10_000, 1, 32, 32), dtype=torch.uint8)
model.end_epoch(images[:500])
model.eval()
g = torch.Generator().manual_seed(0)
x = torch.rand(100, 1, 32, 32)
import time
if {k} > 500: model.end_epoch(images)
with torch.no_grad():
    started = time.process_time()
    model.loss(x, g)
print(peak() / 1024, time.process_time() - started)
"""


def clock() -> float:
    """Return CPU seconds of this process, or wall seconds once the GPU is done."""
    if CUDA:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def stepper(name: str, options: dict) -> Callable[[], None]:
    """Return a function that makes one training step of a fresh model."""
    model = build_model(name, SHAPE, latent_dim=D, **options).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    generator = Generator(DEVICE).manual_seed(0)
    x = torch.rand(BATCH, *SHAPE, generator=generator, device=DEVICE)

    def step() -> None:
        loss = model.loss(x, generator)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def spread(values: list[float], form: str) -> str:
    """Return the median and the range as text."""
    return f"{statistics.median(values):{form}} [{min(values):{form}} to {max(values):{form}}]"


def compare_steps(network: str, width: int, rounds: int) -> None:
    """Print each model's step beside the VAE's."""
    steps = {key: stepper(name, {"network": network, "width": width, **o}) for key, (name, o) in CASES.items()}
    times: dict[str, list[float]] = {key: [] for key in steps}
    for round_ in range(rounds + 1):
        for key, step in steps.items():
            started = clock()
            step()
            seconds = clock() - started
            times[key] += [seconds] if round_ else []  # the first round warms up
    print(f"\n| {network}, width {width} | ms a step | multiple of the vae's |\n|---|---|---|")
    for key, values in times.items():
        ratios = [a / b for a, b in zip(values, times["vae"], strict=True)]
        print(f"| {key} | {spread([1e3 * v for v in values], '.1f')} | {spread(ratios, '.2f')} |", flush=True)


def measure_centroids() -> None:
    """Peak memory of a fresh process that evaluates a batch, with 1 and with 10,000 centroids."""
    found = {}
    for k in (1, 10_000):
        out = subprocess.run([sys.executable, "-c", CENTROIDS.format(k=k)], capture_output=True, text=True, check=True)
        found[k] = [float(word) for word in out.stdout.split()]
    growth = found[10_000][0] - found[1][0]
    print(
        f"\nrhvae, loss of a batch of 100 in evaluation with 10,000 centroids: {found[10_000][1]:.2f} s CPU, ", end=""
    )
    print(
        f"peak {found[10_000][0]:.0f} MiB, {growth:.0f} MiB more than with one centroid (torch alone and mlp included)"
    )


def images_per_second(network: str, shape: tuple[int, int, int], batch: int, rounds: int, **training: object) -> str:
    """Return images/s of training the paper's network on the GPU."""
    model = build_model("vae", shape, latent_dim=D, network=network).to(DEVICE)
    trainer = Trainer(epochs=rounds + 2, batch_size=batch, **training)
    data = torch.randint(0, 256, (10 * batch, *shape), dtype=torch.uint8, device=DEVICE)
    records = list(trainer.run(trainer.start(model), data, data[:1]))[2:]
    return spread([len(data) / record.seconds for record in records], ",.0f")


def measure_gpu(rounds: int) -> None:
    """Print images/s of the paper's networks in every mode."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    modes: dict[str, dict] = {
        "fp32 (TF32)": {},
        "bf16": {"precision": "bf16"},
        "bf16, channels-last": {"precision": "bf16", "channels_last": True},
        "bf16, compile": {"precision": "bf16", "compile": True},
        "bf16, compile, channels-last": {"precision": "bf16", "compile": True, "channels_last": True},
    }
    print("\n| network, batch | mode | images/s |\n|---|---|---|")
    for network, shape in (("conv32", (3, 32, 32)), ("conv64", (3, 64, 64))):
        for batch in (100, 1000):
            for name, training in modes.items():
                rate = images_per_second(network, shape, batch, rounds, **training)
                print(f"| {network}, {batch} | {name} | {rate} |", flush=True)


def main() -> None:
    """Parse the arguments and print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--widths", type=int, nargs=2, default=(1000, 4), help="of mlp and of conv32")
    arguments = parser.parse_args()
    print(f"{DEVICE}, torch {torch.__version__}, {torch.get_num_threads()} thread(s)")
    compare_steps("mlp", arguments.widths[0], arguments.rounds)
    compare_steps("conv32", arguments.widths[1], arguments.rounds)
    measure_centroids()
    if CUDA:
        measure_gpu(arguments.rounds)


if __name__ == "__main__":
    main()
