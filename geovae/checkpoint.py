"""Checkpoints: one safetensors file each, with JSON and a digest in its header; written atomically, nothing pickled.

A training checkpoint holds all of a training state, so that a resumed run continues bit for bit. Model files
(`geovae.saved_model`) have the same container and another `kind` in the header.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from geovae.checks import check_fields
from geovae.files import atomic_path


class Restorable(Protocol):
    """A training state: named tensors, and the rest as JSON can hold it."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name."""

    def meta(self) -> dict[str, Any]:
        """Return the rest."""

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Set the state from both."""


def save(path: Path | str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Path:
    """Write tensors and JSON `meta` to `path`, atomically."""
    from safetensors.torch import save as serialize

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = json.dumps(meta)
    with atomic_path(path) as temporary:
        temporary.write_bytes(serialize(plain, {"geovae": header, "digest": _digest(plain, header)}))
    return Path(path)


def _digest(tensors: Mapping[str, Tensor], header: str) -> str:
    """Return a hash of names, types, shapes and bytes of the tensors, and of the header."""
    found = hashlib.sha256(header.encode())
    for name, value in sorted(tensors.items()):
        found.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def check_finite(path: Path | str, tensors: Mapping[str, Tensor]) -> None:
    """Raise a ValueError if a tensor of a file holds NaN or infinity."""
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{path} holds values in {name} that are not finite: its training diverged")


def load(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the JSON header that `save` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it was not written by `save`, or is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, RuntimeError) as error:  # of sizes that no memory holds
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not a safetensors file, or is damaged: {reason}") from error
    header = metadata.get("geovae")
    if header is None:
        raise ValueError(f"{path} was not written by geovae: its header has no 'geovae' entry")
    # files of the first versions have no digest; a damaged name of the entry must not pass for one of them
    foreign = metadata.keys() - {"geovae", "digest"}
    if foreign or ("digest" in metadata and metadata["digest"] != _digest(tensors, header)):
        raise ValueError(f"{path} is damaged: its content is not what was written; take a copy of it, or train again")
    return tensors, _parse_header(path, header)


def _parse_header(path: Path | str, header: str) -> dict[str, Any]:
    try:
        meta = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its header is not JSON") from error
    if not isinstance(meta, dict):
        raise ValueError(f"{path} is damaged: its header must hold a mapping, got {type(meta).__name__}")
    return meta


def save_training(path: Path | str, state: Restorable) -> Path:
    """Write a training checkpoint: the whole state."""
    return save(path, state.tensors(), {"kind": "training", "state": state.meta()})


def load_training(path: Path | str, state: Restorable) -> None:
    """Restore `state`, built for the same configuration, from a training checkpoint.

    Raises:
        ValueError: if the file is of another kind or of another architecture.
    """
    tensors, meta = load(path)
    check_kind(path, meta, "training")
    check_fields(f"the header of {path}", meta, {"state": dict})
    restore_weights(path, lambda: state.restore(tensors, meta["state"]))


def check_kind(path: Path | str, meta: dict[str, Any], kind: str) -> None:
    """Raise a ValueError unless the header `meta` names this kind."""
    if meta.get("kind") != kind:
        raise ValueError(f"{path} is a {meta.get('kind', 'foreign')} file, expected a {kind} file")


def restore_weights(path: Path | str, restore: Callable[[], object]) -> None:
    """Call `restore`; a mismatch of names and shapes, which torch reports in pages, becomes one ValueError."""
    try:
        restore()
    except (RuntimeError, LookupError, TypeError, AttributeError) as error:  # of a state that lacks parts too
        short = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} holds a model of another architecture, or lacks parts: {short}") from error
