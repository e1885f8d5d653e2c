"""`python -m mlflow_projects.frechet A B`: the Frechet distance of two sets, as `python -m pytorch_fid A B` has it."""

import sys
import zipfile
from pathlib import Path

from torch import nn

from geovae.devices import choose_device
from geovae.evaluation import (
    Statistics,
    extract,
    frechet_distance,
    headline,
    read_statistics,
    statistics,
    write_statistics,
)
from geovae.evaluation import extractor as build_extractor
from geovae.evaluation.folders import image_files, read_images
from geovae.evaluation.frechet import statistics_path
from geovae.evaluation.inception import Inception
from mlflow_projects import entry
from mlflow_projects.evaluate import Features


def main(*paths: str, save_stats: str = "", features: Features = Features()) -> None:
    """Print the Frechet distance of two sets: folders or files of images, or npz files of statistics (`mu`, `sigma`).

    Statistics may be ours or pytorch-fid's, and pytorch-fid reads ours. No MLflow run is made.

    Args:
        *paths: the two sets; one with `save_stats`.
        save_stats: npz file to write the statistics of one set to.
        features: the extractor.
    """
    if len(paths) != (1 if save_stats else 2):
        raise ValueError(
            f"give {'one path' if save_stats else 'two paths'}, got {len(paths)}: {', '.join(paths) or 'none'}"
        )
    target = statistics_path(save_stats) if save_stats else None
    for path in paths:
        image_files(path)  # a path that does not exist is an error before the work on the other begins
    network = None if all(_holds_statistics(Path(path)) for path in paths) else _network(features)
    sets = [_statistics(Path(path), network, features) for path in paths]
    if target is not None:
        print(f"wrote {write_statistics(target, sets[0])}")
    else:
        print(f"{_name(network, sets)}: {frechet_distance(*sets):.6f}")


def _network(features: Features) -> nn.Module:
    chosen = features.choose()
    return build_extractor(chosen) if isinstance(chosen, str) else chosen


def _holds_statistics(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return "mu.npy" in file.namelist()


def _statistics(path: Path, network: nn.Module | None, features: Features) -> Statistics:
    if network is None or _holds_statistics(path):
        return read_statistics(path)
    device, progress = choose_device(features.device), sys.stderr.isatty()
    values = extract(read_images(path), network, batch_size=features.batch_size, device=device, progress=progress)
    return statistics(values, extractor=str(network.id))


def _name(network: nn.Module | None, sets: list[Statistics]) -> str:
    """Return the name of the distance; without a network, files of statistics may know their extractor themselves."""
    if network is not None:
        return headline(str(network.name))
    extractor = next((one.extractor for one in sets if one.extractor), None)
    return headline("inception" if extractor == Inception.id else extractor) if extractor else "frechet"


if __name__ == "__main__":
    entry.main(main)
