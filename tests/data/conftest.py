"""Small files in the layouts that the loaders read, with the real shapes, types and ranges of one image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geovae.data import DATASETS
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


def write_all(root: Path) -> None:
    """Write every layout below `root`."""
    from scipy.io import savemat

    write_npz(root / "mnist/mnist_32x32.npz", x_train=noise(N, 32, 32, 1), y_train=digits_of(N))
    write_pngs(root / "mnist/test_folder", noise(6, 32, 32, seed=1))
    write_npz(root / "cifar/cifar_10.npz", x_train=noise(N, 32, 32, 3), y_train=digits_of(N)[:, None])
    write_pngs(root / "cifar/test_folder", noise(6, 32, 32, 3, seed=1))
    (root / "svhn").mkdir()
    mat = {"X": noise(N, 32, 32, 3).transpose(1, 2, 3, 0), "y": digits_of(N)[:, None] + 1}
    savemat(root / "svhn/train_32x32.mat", mat)
    write_pngs(root / "svhn/test_folder", noise(6, 32, 32, 3, seed=1))
    (root / "celeba").mkdir()
    torch.save(torch.from_numpy(noise(N, 3, 64, 64)) / 255, root / "celeba/train_data.pt")
    torch.save(torch.from_numpy(noise(9, 3, 64, 64, seed=1)) / 255, root / "celeba/val_data.pt")
    write_pngs(root / "celeba/test/test", noise(6, 64, 64, 3, seed=2))
    write_npz(root / "oasis/OASIS.npz", x_train=noise(N, 208, 176, 1), y_train=np.arange(N) % 2)
    volumes = noise(N, 44, 52, 44)
    (root / "oasis/volumes").mkdir()
    for i, volume in enumerate(volumes):
        np.save(root / f"oasis/volumes/S{i:02d}_MR1.npy", volume)
    lines = ["id,subject,label", *(f"S{i:02d}_MR1,S{i:02d},{i % 2}" for i in range(N))]
    (root / "oasis/manifest.csv").write_text("\n".join(lines) + "\n")
    write_pngs(root / "folder", noise(N, 20, 24, 3))


@pytest.fixture(scope="session")
def all_layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with every layout in it, for tests that only read."""
    root = tmp_path_factory.mktemp("data_folders")
    write_all(root)
    return root


@pytest.fixture
def load_small(all_layouts: Path) -> Callable[..., Any]:
    """Load a data set by name from the small files."""

    def load(name: str, **options: Any) -> Any:
        sizes = {"val_size": 10} if name in ("mnist", "cifar", "svhn") else {}
        root = {"root": str(all_layouts)} if DATASETS[name].reads_files else {}
        return DATASETS[name](**(root | sizes | options))

    return load


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where builders write: not there yet."""
    return tmp_path / "data_folders"
