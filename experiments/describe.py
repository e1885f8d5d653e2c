"""What every run records before it starts: its configuration, its data, its software, the commit of its code."""

import json
import os
import platform
import subprocess
from pathlib import Path

import torch

from experiments.config import Config, fingerprint, flatten, to_yaml
from geovae.data import Splits
from geovae.files import atomic_path
from geovae.tracking import MlflowTracker, Tracker


def describe_run(name: str, config: Config, tracker: MlflowTracker, output: Path | None = None) -> Path:
    """Record what a run is made of, and return its output folder with `config.yaml` in it."""
    output = writable(output or tracker.output)
    with atomic_path(output / "config.yaml") as temporary:
        temporary.write_text(to_yaml(config))
    tracker.artifact(output / "config.yaml")
    # text of its own: the versions are too many for parameters, and nobody compares runs by them
    tracker.text("environment.json", json.dumps(environment(), indent=2))
    tracker.params({f"cfg.{key}": value for key, value in flatten(config).items()})
    names = {"model": config["model"]["name"], "dataset": config["data"]["name"], "seed": config["seed"]}
    hashes = {"config": fingerprint(config), "config_over_seeds": fingerprint(config, over_seeds=True)}
    tracker.tags(names | hashes | git_tags())
    return output


def track_data(tracker: Tracker, name: str, splits: Splits) -> None:
    """Track which images a run uses, part by part."""
    # a name for each part: MLflow keeps only one context of two inputs with the same name and digest
    for context, part in splits.parts().items():
        place = {"name": f"{name}-{context}", "digest": splits.digest, "source": splits.source}
        tracker.dataset(**place, context=context, shape=tuple(part.images.shape))
    tracker.params({f"n_{context}": len(part) for context, part in splits.parts().items()})


def git_tags() -> dict[str, str]:
    """Return the commit of the code that runs, under MLflow's own name; nothing outside a checkout.

    GEOVAE_COMMIT holds it where the code came without its repository, as on the nodes of a cluster.
    """
    if os.environ.get("GEOVAE_COMMIT"):
        return {"mlflow.source.git.commit": os.environ["GEOVAE_COMMIT"]}
    command = ["git", "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"mlflow.source.git.commit": commit.stdout.strip()}


def writable(folder: Path) -> Path:
    """Return `folder`, made if need be.

    Raises:
        PermissionError: if nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionError(f"cannot write to the output folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"cannot write to the output folder {folder}: make it writable or choose another")
    return folder


def environment() -> dict[str, str]:
    """Return the versions and the machine that a run used."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("torch", "numpy", "scipy", "scikit-learn", "mlflow", "ray")}
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    machine = {"python": platform.python_version(), "platform": platform.platform(), "cores": str(os.cpu_count())}
    return machine | gpu | packages
