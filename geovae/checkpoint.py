"""Checkpoints: one safetensors file each, with JSON in its header; written atomically, nothing pickled.

A training checkpoint holds all of a training state, so that a resumed run continues bit for bit. Model files
(`geovae.saved_model`) have the same container and another `kind` in the header.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

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
    with atomic_path(path) as temporary:
        temporary.write_bytes(serialize(plain, {"geovae": json.dumps(meta)}))
    return Path(path)


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
            header = (file.metadata() or {}).get("geovae")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is damaged: {error}") from error
    if header is None:
        raise ValueError(f"{path} was not written by geovae: its header has no 'geovae' entry")
    return tensors, json.loads(header)


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
    restore_weights(path, lambda: state.restore(tensors, meta["state"]))


def check_kind(path: Path | str, meta: dict[str, Any], kind: str) -> None:
    """Raise a ValueError unless the header `meta` names this kind."""
    if meta.get("kind") != kind:
        raise ValueError(f"{path} is a {meta.get('kind', 'foreign')} file, expected a {kind} file")


def restore_weights(path: Path | str, restore: Callable[[], object]) -> None:
    """Call `restore`; a mismatch of names and shapes, which torch reports in pages, becomes one ValueError."""
    try:
        restore()
    except RuntimeError as error:
        short = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} holds a model of another architecture: {short}") from error
