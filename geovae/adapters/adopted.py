"""Autoencoders from elsewhere in model files: the JSON that describes one, and the adapter that is built from it.

Nothing of a file is run. The description may name classes, which are imported; they must be modules of the right kind.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from geovae.adapters.adapter import Adapter, adapt
from geovae.adapters.diffusers import build_diffusers, load_diffusers
from geovae.adapters.pythae import PARTS, build_pythae, read_config
from geovae.adapters.weights import load_weights, read_json
from geovae.checks import check_choice, check_count, check_fields, import_class
from geovae.images import to_float

KINDS = ("pythae", "diffusers", "weights")
CLASSES = ("module", *PARTS)  # fields of a description that name a class
FIELDS: dict[str, Any] = {"margin": int, "latent_shape": list, "config": dict | None, "arguments": dict | None}
FIELDS |= dict.fromkeys(CLASSES, str | None)


@dataclass(frozen=True)
class Architecture:
    """What the files do not say.

    Args:
        module: of weights: package.module:Class of the autoencoder, with `encode` and `decode`.
        arguments: of weights: keyword arguments of that class, such as {"latent_dim": 8}.
        prefix: of weights: what the names in the file that belong to `module` begin with, such as "model.".
        encoder: of pythae: package.module:Class of an encoder of your own; it is called with the model's configuration.
        decoder: of pythae: the same of a decoder.
        metric: of pythae: the same of a metric.
        margin: width of the black rim of the images that the model does not know; 2 for MNIST of 28x28 pixels.
    """

    module: str = ""
    arguments: dict[str, Any] | None = None
    prefix: str = ""
    encoder: str = ""
    decoder: str = ""
    metric: str = ""
    margin: int = 0


def adopt(kind: str, path: Path, architecture: Architecture, images: Tensor) -> tuple[Adapter, dict[str, Any]]:
    """Return the autoencoder in a file or folder, and its description for `build_adopted`.

    Args:
        kind: one of `KINDS`.
        path: pythae's or diffusers' folder; a file of weights for `load_weights`.
        architecture: what the files do not say.
        images: some (n, c, h, w) of its training, by which it is tried.

    Raises:
        FileNotFoundError: if files are missing.
        ValueError: if they are not of this kind, or the model does not take and draw such images.
    """
    check_choice("kind", kind, KINDS)
    check_count(low=0, margin=architecture.margin)
    with _packages(kind):
        adapter, described = _read(kind, path, architecture)
    adapter.eval().margin = architecture.margin
    _try(adapter, images)
    return adapter, described | {
        "margin": architecture.margin,
        "latent_shape": list(adapter.latent_shape or ()),
        "weights": _digest(adapter),  # two trainings of one architecture are two models
    }


def build_adopted(kind: str, description: Mapping[str, Any]) -> Adapter:
    """Return the autoencoder of a description, with random weights; torch's global random state is kept.

    Raises:
        ValueError: if it does not describe one, names a class that cannot be imported, or needs a package that is
            missing.
    """
    check_fields("the description of the model", description, FIELDS)
    with _packages(kind), torch.random.fork_rng(devices=[]):
        adapter = _build(kind, description)
    adapter.margin = description["margin"]
    adapter.latent_shape = tuple(description["latent_shape"])
    return adapter


def class_names(description: Mapping[str, Any]) -> list[str]:
    """Return the classes that `build_adopted` imports, as package.module:Class."""
    return [description[name] for name in CLASSES if name in description]


@contextmanager
def _packages(kind: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError(f"a model of {kind} needs more packages: {error}; pip install 'geovae[adapters]'") from error


def _read(kind: str, path: Path, architecture: Architecture) -> tuple[Adapter, dict[str, Any]]:
    if kind == "diffusers":
        return load_diffusers(path), {"config": read_json(path / "config.json")}
    described = {name: value for name in CLASSES if (value := getattr(architecture, name))}
    described |= {"config": read_config(path)} if kind == "pythae" else {"arguments": architecture.arguments or {}}
    adapter = _build(kind, described)
    file, prefix = (path / "model.pt", "") if kind == "pythae" else (path, architecture.prefix)
    load_weights(adapter.module, file, prefix=prefix)  # type: ignore[type-var]
    return adapter, described


def _build(kind: str, description: Mapping[str, Any]) -> Adapter:
    if kind == "pythae":
        parts = {name: _import(name, description[name]) for name in PARTS if name in description}
        return build_pythae(description["config"], **parts)
    if kind == "diffusers":
        return build_diffusers(description["config"])
    if "module" not in description:
        raise ValueError("weights alone do not say what network they belong to: give `module`, package.module:Class")
    build = _import("module", description["module"])
    try:
        return adapt(build(**description["arguments"]).eval())
    except TypeError as error:
        raise ValueError(f"`arguments` must be those of {description['module']}: {error}") from error


def _import(name: str, target: str) -> Any:
    """Return a class; no other callable, since a model file could name any."""
    found = import_class(name, target)
    needed = ("encode", "decode") if name == "module" else ("forward",)
    if not (isinstance(found, type) and issubclass(found, nn.Module) and all(hasattr(found, part) for part in needed)):
        raise ValueError(f"`{name}` must name a torch module with {' and '.join(needed)}, got {target!r}")
    return found


@torch.no_grad()
def _try(adapter: Adapter, images: Tensor) -> None:
    shape = tuple(images.shape[1:])
    try:
        found = tuple(adapter.decode(adapter.encode(to_float(images)).mu).shape[1:])
    except RuntimeError as error:  # of shapes that do not fit, in torch's words
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"the model does not take images of shape {shape}: {reason}; see `margin`") from error
    if found != shape:
        raise ValueError(f"the model takes images of shape {shape}, but draws images of shape {found}; see `margin`")


def _digest(module: nn.Module) -> str:
    tensors = {name: value.cpu().contiguous().clone() for name, value in module.state_dict().items()}
    return hashlib.sha256(save(tensors)).hexdigest()[:12]
