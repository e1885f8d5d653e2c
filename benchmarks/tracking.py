"""The cost of tracking: a training that records into an MLflow run in SQLite, beside the same training without a
tracker.

python benchmarks/tracking.py [--repeats 5] [--epochs 20]
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import mlflow

from experiments import run as experiment
from geovae.data import DATASETS, Splits
from geovae.models import build_model
from geovae.tracking import MlflowTracker, NullTracker, Tracker
from geovae.training import Trainer


def train(splits: Splits, epochs: int, tracker: Tracker, output: Path) -> tuple[float, float]:
    """Return the seconds that training takes with all that a run tracks and saves: by the clock, of all threads."""
    trainer = Trainer(epochs=epochs)
    state = trainer.start(build_model("vae", splits.image_shape, network="mlp", latent_dim=10))
    started = time.perf_counter(), time.process_time()
    experiment.train(trainer, state, splits, output, tracker, images_every=10)
    return time.perf_counter() - started[0], time.process_time() - started[1]


def main() -> None:
    """Alternate both and print the ratio of each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    splits = DATASETS["digits"](augment=3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        where = mlflow.MlflowClient(uri).create_experiment("t", artifact_location=str(folder / "artifacts"))
        pairs = []
        for i in range(options.repeats + 1):
            silent = train(splits, options.epochs, NullTracker(), folder / f"silent{i}")
            with MlflowTracker(folder / f"told{i}", experiment_id=where, tracking_uri=uri) as tracker:
                told = train(splits, options.epochs, tracker, folder / f"told{i}")
            if i:  # the first pair warms up
                pairs.append((silent, told))
    sys.stdout.write(
        f"{options.epochs} epochs of {len(splits.train)} digits, mlp at the paper's width, {options.repeats} pairs\n"
        "| | without | with MLflow | ratio median | ratio min to max |\n|---|---|---|---|---|\n"
    )
    for kind, name in enumerate(("clock", "processor time of all threads")):
        without, told = ([pair[which][kind] for pair in pairs] for which in (0, 1))
        ratios = sorted(t / s for s, t in zip(without, told, strict=True))
        sys.stdout.write(
            f"| {name} | {statistics.median(without):.2f} s | {statistics.median(told):.2f} s "
            f"| {statistics.median(ratios):.3f} | {ratios[0]:.3f} to {ratios[-1]:.3f} |\n"
        )


if __name__ == "__main__":
    main()
