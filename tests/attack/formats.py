"""One good file of each format that geovae reads, and the function that reads it to values that can be compared."""

import gzip
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from experiments.config import resolve
from experiments.run import check_config, read_comparison
from experiments.studies.plan import read_study
from experiments.yaml_file import read_yaml
from geovae import checkpoint
from geovae.codes import Codes
from geovae.data import npz
from geovae.data.builders.idx import read_idx
from geovae.evaluation import Statistics, read_statistics, write_statistics
from geovae.files import read_npz
from geovae.images.pictures import read_images
from geovae.models import build_model
from geovae.models.published import read_published
from geovae.mri import read_volume
from geovae.mri.cohort.table import read_table
from geovae.saved_model import load_model, save_model
from geovae.training import Trainer
from tuning.space import check_space, read_space

SHAPE = (1, 8, 8)
OPTIONS = {"network": "mlp", "width": 4, "latent_dim": 2}


@dataclass(frozen=True)
class Format:
    """A format: its good file's name, what writes it and what reads it.

    `sealed`: it has a checksum, so that no other content may be read. `sized`: its header says how long it is, so that
    a file that is cut or continued must be refused.
    """

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    sealed: bool = False
    sized: bool = False


def digest(*arrays: Any) -> str:
    """Return a hash of arrays or tensors."""
    total = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(array)
        total.update(f"{values.dtype}{values.shape}".encode() + values.tobytes())
    return total.hexdigest()


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def write_idx(path: Path) -> None:
    path.write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 6, 5, 4) + pixels(6, 5, 4).tobytes(), mtime=0))


def trained() -> tuple[Any, Codes]:
    codes = Codes(torch.randn(9, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(9, 2))
    return build_model("vae", SHAPE, **OPTIONS), codes


def write_model(path: Path) -> None:
    model, codes = trained()
    save_model(path, model, codes, name="vae", options=OPTIONS, image_shape=SHAPE, data={"name": "digits"}, digest="d")


def write_unsealed_model(path: Path) -> None:
    write_model(path)
    tensors, meta = checkpoint.load(path)
    save_file(tensors, path, {"geovae": json.dumps(meta)})


def read_model(path: Path) -> str:
    saved = load_model(path)
    return digest(*saved.model.state_dict().values(), saved.codes.mu) + str(saved.meta)


def fresh_state() -> Any:
    return Trainer(epochs=2, batch_size=4).start(build_model("vae", SHAPE, **OPTIONS))


def write_checkpoint(path: Path) -> None:
    state, images = fresh_state(), torch.from_numpy(pixels(8, *SHAPE))
    for _ in Trainer(epochs=1, batch_size=4).run(state, images, images):
        checkpoint.save_training(path, state)


def read_checkpoint(path: Path) -> str:
    state = fresh_state()
    checkpoint.load_training(path, state)
    return digest(*state.tensors().values()) + str(state.meta())


def write_volume(path: Path) -> None:
    import nibabel as nib

    data, affine = pixels(6, 5, 4).astype(np.int16), np.diag([1.0, 1.0, 2.0, 1.0])
    if path.suffix == ".img":
        nib.AnalyzeImage(data, affine).to_filename(path)
    else:
        nib.Nifti1Image(data, affine).to_filename(path)


def read_voxels(path: Path) -> str:
    volume = read_volume(path)
    return digest(volume.data, volume.affine)


def published() -> dict[str, Any]:
    """Return what the paper's code writes: an mlp for digits of 32 x 32 pixels."""
    sizes = {"fc1": (1000, 1024), "fc11": (500, 1000), "fc21": (2, 500), "fc22": (2, 500)}
    sizes |= {"fc3": (500, 2), "fc33": (1000, 500), "fc4": (1024, 1000)}
    state = {f"{name}.weight": torch.zeros(shape) for name, shape in sizes.items()}
    state |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in sizes.items()}
    return {"state_dict": state, "args": {"model_name": "VAE", "dataset": "mnist", "input_dim": 1024, "beta": 1.0}}


def read_weights_of_paper(path: Path) -> str:
    found = read_published(path)
    return digest(*found.weights.values()) + str(found[:3])


TABLE = [["ID", "M/F", "Age", "CDR"], *([f"OAS1_{i:04d}_MR1", "F", 70 + i, (0, 0.5, 1)[i % 3]] for i in range(8))]


def write_csv(path: Path) -> None:
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in TABLE))


def write_xlsx(path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    for line in TABLE:
        book.active.append(line)
    book.save(path)


def read_rows(path: Path) -> list[Any]:
    rows, _ = read_table(path)
    return sorted(map(str, rows))


def write_yaml(content: Any) -> Callable[[Path], object]:
    return lambda path: path.write_text(yaml.safe_dump(content))


def read_config(path: Path) -> str:
    return str(check_config(resolve({"config": str(path)})))


def search(path: Path) -> str:
    space = read_space(str(path))
    check_space(space, {"model.network": "mlp"})
    return str(space.describe())


CONFIG = {
    "data": {"name": "digits", "val_fraction": 0.2},
    "model": {"name": "vae", "latent_dim": 2, "network": "mlp", "width": 20, "beta": 0.5},
    "training": {"epochs": 3, "batch_size": 50, "learning_rate": 1e-3},
    "samplers": ["prior", "mixture"],
    "seed": 1,
}
SPACE = {
    "fixed": {"model.name": "vae", "data.name": "digits"},
    "search": {
        "model.latent_dim": {"choice": [2, 4]},
        "training.learning_rate": {"log_uniform": [1e-4, 1e-2]},
        "model.width": {"uniform": [10, 30], "step": 10},
        "model.beta": {"uniform": [0.1, 1.0], "when": {"model.name": "vae"}},
    },
}
COMPARISON = {"dataset": "digits", "runs": {"a": {"model.name": "vae"}, "b": {"model": {"name": "ae"}}}}
STUDY = {
    "title": "t",
    "about": "a",
    "report": "table1",
    "options": {"model.network": "mlp"},
    "models": {"vae": {"model.name": "vae", "samplers": ["prior"]}},
    "sizes": {"ci": {"seeds": 1, "data": {"digits": {"data.name": "digits"}}, "options": {"training.epochs": 1}}},
}

FILES = {
    "npz": Format(
        "a.npz",
        lambda path: np.savez(path, x_train=pixels(6, 5, 4, 1), y_train=np.arange(6)),
        lambda path: digest(npz.read_images(path), npz.read_labels(path, "y_train", 6)),
        sealed=True,
    ),
    "npz_small": Format(
        "a.npz",
        lambda path: np.savez(path, a=pixels(5), b=np.ones(3)),
        lambda path: digest(*read_npz(path).values()),
        sealed=True,
    ),
    "statistics": Format(
        "a.npz",
        lambda path: write_statistics(path, Statistics(torch.zeros(3), torch.eye(3))),
        lambda path: digest(*read_statistics(path)[:2]),
        sealed=True,
    ),
    "npy": Format(
        "a.npy", lambda path: np.save(path, pixels(3, 5, 4, 3)), lambda path: digest(read_images(path)), sized=True
    ),
    "png": Format(
        "a.png",
        lambda path: Image.fromarray(pixels(9, 7, 3)).save(path),
        lambda path: digest(read_images(path)),
        sealed=True,
    ),
    "idx": Format("a.gz", write_idx, lambda path: digest(read_idx(path)), sealed=True),
    "model": Format("a.safetensors", write_model, read_model, sealed=True),
    "model_without_digest": Format("a.safetensors", write_unsealed_model, read_model),
    "published": Format("a.pt", lambda path: torch.save(published(), path), read_weights_of_paper),
    "checkpoint": Format("a.safetensors", write_checkpoint, read_checkpoint, sealed=True),
    "nifti_gz": Format("a.nii.gz", write_volume, read_voxels, sealed=True),
    "nifti": Format("a.nii", write_volume, read_voxels, sized=True),
    "analyze": Format("a.img", write_volume, read_voxels, sized=True),
    "analyze_header": Format("a.hdr", lambda path: write_volume(path.with_suffix(".img")), read_voxels),
    "csv": Format("a.csv", write_csv, read_rows),
    "xlsx": Format("a.xlsx", write_xlsx, read_rows, sealed=True),
}
TREES: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "config": (CONFIG, read_config),
    "space": (SPACE, search),
    "comparison": (COMPARISON, lambda path: str(read_comparison(path, {"model.network": "mlp"}, "main"))),
    "study": (STUDY, lambda path: str(read_study(str(path), "ci"))),
}
YAML_TEXT = {"yaml": Format("a.yaml", write_yaml(CONFIG), lambda path: str(read_yaml(path)))}
