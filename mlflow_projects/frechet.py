"""`python -m mlflow_projects.frechet A B`: the Frechet distance of two sets, as `python -m pytorch_fid A B` gives it.

Each of A and B is a folder or file of images, or an npz file of statistics (`mu`, `sigma`), ours or pytorch-fid's.
`--save-stats IMAGES FILE.npz` writes such a file, which pytorch-fid reads. No MLflow run is made.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from experiments.judge import choose_extractor
from geovae.evaluation import Statistics, extract, frechet_distance, read_statistics, statistics, write_statistics
from geovae.evaluation import extractor as build_extractor
from geovae.evaluation.folders import read_images
from geovae.evaluation.scores import reported_name
from mlflow_projects import entry


def main(flags: Sequence[str]) -> None:
    """Take the two paths, and `--extractor`, `--inception-weights`, `--save-stats`."""
    paths = [flag for flag in flags if not flag.startswith("--") and flag]
    save = "--save-stats" in flags
    values, rest = entry.take_flags(
        [f for f in flags if f.startswith("--") and f != "--save-stats"],
        **{"extractor": "auto", "inception-weights": ""},
    )
    entry.refuse(rest, ["extractor=NAME", "inception-weights=FILE", "save-stats"], __doc__ or "")
    if len(paths) != 2:
        raise ValueError(f"give two paths, got {len(paths)}: {', '.join(paths) or 'none'}")
    network = _network(values["extractor"], values["inception-weights"])
    if save:
        print(f"wrote {write_statistics(paths[1], _statistics(Path(paths[0]), network))}")
        return
    distance = frechet_distance(*(_statistics(Path(path), network) for path in paths))
    print(f"{reported_name('frechet', str(network.name))}: {distance:.6f}")


def _network(name: str, weights: str) -> nn.Module:
    if weights:
        return build_extractor("inception", weights=weights)
    return build_extractor(choose_extractor(name))


def _statistics(path: Path, network: nn.Module) -> Statistics:
    if path.suffix == ".npz" and path.is_file():
        with np.load(path, allow_pickle=False) as file:
            if "mu" in file.files:
                return read_statistics(path)
    progress = sys.stderr.isatty()
    return statistics(extract(read_images(path), network, progress=progress), extractor=str(network.id))


if __name__ == "__main__":
    entry.main(main)
