"""`python -m mlflow_projects.frechet A B`: the Frechet distance of two sets, as `python -m pytorch_fid A B` gives it.

Each of A and B is a folder or file of images, or an npz file of statistics (`mu`, `sigma`), ours or pytorch-fid's.
`--save-stats IMAGES FILE.npz` writes such a file, which pytorch-fid reads. `--extractor`, `--inception-weights`,
`--device` and `--batch-size` say how images become features. No MLflow run is made.
"""

import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from experiments.judge import choose_device
from geovae.evaluation import (
    Statistics,
    choose_extractor,
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

DEFAULTS = {"extractor": "auto", "inception-weights": "", "device": "auto", "batch-size": "50"}


def main(flags: Sequence[str]) -> None:
    """Take the two paths and the options."""
    paths, options = _sorted_out([flag for flag in flags if flag != "--save-stats"])
    values, rest = entry.take_flags(options, **DEFAULTS)
    entry.refuse(rest, [*DEFAULTS, "save-stats"], __doc__ or "")
    if len(paths) != 2:
        raise ValueError(f"give two paths, got {len(paths)}: {', '.join(paths) or 'none'}")
    batch_size, device = entry.whole("batch-size", values["batch-size"], 1), choose_device(values["device"])
    sources = [Path(path) for path in paths]
    target = statistics_path(sources.pop()) if "--save-stats" in flags else None
    for source in sources:
        image_files(source)  # a path that leads nowhere is said before the work on the other begins
    network = None if all(_holds_statistics(s) for s in sources) else _network(values)
    found = [
        read_statistics(source)
        if network is None or _holds_statistics(source)
        else _statistics(source, network, batch_size, device)
        for source in sources
    ]
    if target is not None:
        print(f"wrote {write_statistics(target, found[0])}")
    else:
        print(f"{_name(network, found)}: {frechet_distance(*found):.6f}")


def _sorted_out(flags: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the paths, and the options with their values, in whatever order they stand."""
    paths, options, rest = [], [], list(flags)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("-"):
            paths.append(flag)
            continue
        options.append(flag)
        if "=" not in flag and flag not in ("-h", "--help"):
            options += rest[:1]
            del rest[:1]
    return paths, options


def _network(values: dict[str, str]) -> nn.Module:
    if values["inception-weights"]:
        return build_extractor("inception", weights=values["inception-weights"])
    return build_extractor(choose_extractor(values["extractor"]))


def _holds_statistics(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return "mu.npy" in file.namelist()


def _statistics(path: Path, network: nn.Module, batch_size: int, device: torch.device) -> Statistics:
    images, progress = read_images(path), sys.stderr.isatty()
    features = extract(images, network, batch_size=batch_size, device=device, progress=progress)
    return statistics(features, extractor=str(network.id))


def _name(network: nn.Module | None, found: list[Statistics]) -> str:
    """Return what the distance is called; files of statistics know their extractor themselves, or nobody does."""
    if network is not None:
        return headline(str(network.name))
    known = next((s.extractor for s in found if s.extractor), None)
    return headline("inception" if known == Inception.id else known) if known else "frechet"


if __name__ == "__main__":
    entry.main(main)
