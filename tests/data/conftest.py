"""Small files in the layouts that the loaders read, with the real shapes, types and ranges of one image."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geovae.data import DATASETS, DataSet, idx
from tests.data.originals import noise

N = 40  # images in each file


def digits_of(n: int) -> np.ndarray:
    return np.arange(n) % 10


def write_pngs(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:05d}.png")


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def write_mnist_like(root: Path, name: str, file: str, channels: int) -> None:
    labels = digits_of(N) if channels == 1 else digits_of(N)[:, None]
    write_npz(root / name / file, x_train=noise(N, 32, 32, channels), y_train=labels)
    test = noise(6, 32, 32, channels, seed=1)
    write_pngs(root / name / "test_folder", test[..., 0] if channels == 1 else test)


def write_svhn(root: Path) -> None:
    from scipy.io import savemat

    write_pngs(root / "svhn/test_folder", noise(6, 32, 32, 3, seed=1))
    mat = {"X": noise(N, 32, 32, 3).transpose(1, 2, 3, 0), "y": digits_of(N)[:, None] + 1}
    savemat(root / "svhn/train_32x32.mat", mat)


def write_celeba(root: Path) -> None:
    write_pngs(root / "celeba/test/test", noise(6, 64, 64, 3, seed=2))
    torch.save(torch.from_numpy(noise(N, 3, 64, 64)) / 255, root / "celeba/train_data.pt")
    torch.save(torch.from_numpy(noise(9, 3, 64, 64, seed=1)) / 255, root / "celeba/val_data.pt")


def write_oasis_volumes(root: Path) -> None:
    (root / "oasis/volumes").mkdir(parents=True)
    for i, volume in enumerate(noise(N, 44, 52, 44)):
        np.save(root / f"oasis/volumes/S{i:02d}_MR1.npy", volume)
    lines = ["id,subject,label", *(f"S{i:02d}_MR1,S{i:02d},{i % 2}" for i in range(N))]
    (root / "oasis/manifest.csv").write_text("\n".join(lines) + "\n")


# A data set that reads files needs a maker of small ones here; without it, contract tests that load are skipped.
LAYOUTS: dict[str, Callable[[Path], None]] = {
    **{name: partial(write_mnist_like, name=name, file=f"{name}_32x32.npz", channels=1) for name in idx.NAMES},
    "cifar": partial(write_mnist_like, name="cifar", file="cifar_10.npz", channels=3),
    "svhn": write_svhn,
    "celeba": write_celeba,
    "oasis": lambda root: write_npz(root / "oasis/OASIS.npz", x_train=noise(N, 208, 176, 1), y_train=np.arange(N) % 2),
    "oasis_volumes": write_oasis_volumes,
    "folder": lambda root: write_pngs(root / "folder", noise(N, 20, 24, 3)),
}


@pytest.fixture(scope="session")
def all_layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with every layout in it, for tests that only read."""
    root = tmp_path_factory.mktemp("data_folders")
    for write in LAYOUTS.values():
        write(root)
    return root


def reads_files(dataset: DataSet) -> bool:
    """Return whether the images come from files below `root`; other data sets are drawn or come with a package."""
    return "root" in inspect.signature(dataset.load).parameters


def small_options(name: str, dataset: DataSet, root: Path) -> dict[str, Any]:
    """Return the options with which a data set loads from its small files."""
    if not reads_files(dataset):
        return {}
    if name not in LAYOUTS:
        pytest.skip(f"no maker of small files of {name!r} in tests/data/conftest.py")
    options = inspect.signature(dataset.load).parameters
    return {"root": str(root)} | ({"val_size": 10} if "val_size" in options else {})


@pytest.fixture
def load_small(all_layouts: Path) -> Callable[..., Any]:
    """Load a data set by name from the small files."""

    def load(name: str, dataset: DataSet | None = None, **options: Any) -> Any:
        dataset = dataset or DATASETS[name]
        return dataset(**(small_options(name, dataset, all_layouts) | options))

    return load


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where builders write: not there yet."""
    return tmp_path / "data_folders"
