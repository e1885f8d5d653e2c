"""Checkpoints: one safetensors file each, with its JSON in the header; written atomically, nothing pickled.

Two kinds: a *training* checkpoint (all of `TrainState`, to go on bit for bit) and a *model* file (weights, what
built them, and the codes of the training set, which is all that geometry and samplers need).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from geovae.codes import Codes
from geovae.models import build_model


class Restorable(Protocol):
    """A state that can be taken apart into named tensors and JSON, and put together again."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name."""

    def meta(self) -> dict[str, Any]:
        """Return the rest, as JSON can hold it."""

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Take both back."""


@dataclass(frozen=True)
class SavedModel:
    """A model file in memory: the model in evaluation mode, the training codes, the rest of its header, labels (n,)."""

    model: Any
    codes: Codes
    meta: dict[str, Any]
    labels: Tensor | None = None


def save(path: Path | str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Path:
    """Write tensors and JSON `meta` to `path`; a reader sees the old file or the new one, never a part."""
    from safetensors.torch import save as serialize

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        with temporary.open("wb") as file:
            file.write(serialize(plain, {"geovae": json.dumps(meta)}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the JSON header that `save` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not one of ours, or damaged.
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
    _check_kind(path, meta, "training")
    try:
        state.restore(tensors, meta["state"])
    except RuntimeError as error:  # torch's own report of names and shapes that do not match
        raise ValueError(f"{path} holds a model of another architecture: {_first_lines(error)}") from error


def save_model(
    path: Path | str,
    model: nn.Module,
    codes: Codes,
    *,
    name: str,
    options: dict[str, Any],
    labels: Tensor | None = None,
    **meta: Any,
) -> Path:
    """Write a model file.

    Args:
        path: where to.
        model: built by `build_model(name, image_shape, **options)`.
        codes: of its training set.
        name: in `MODELS`.
        options: the model's keyword options.
        labels: of the training set (n,), where it has any.
        **meta: more JSON for the header (`image_shape` is required; samplers, data, scores).
    """
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()} | {"codes.mu": codes.mu}
    if codes.log_var is not None:
        tensors["codes.log_var"] = codes.log_var
    tensors |= {f"codes.extras.{key}": value for key, value in codes.extras.items()}
    if labels is not None:
        tensors["labels"] = labels
    return save(path, tensors, {"kind": "model", "model": name, "options": options, **meta})


def load_model(path: Path | str, device: torch.device | str = "cpu") -> SavedModel:
    """Read a model file and build its model on `device`, in evaluation mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, of another kind, or of another architecture than its header says.
    """
    tensors, meta = load(path)
    _check_kind(path, meta, "model")
    model = build_model(meta["model"], tuple(meta["image_shape"]), **meta["options"])
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} holds a model of another architecture: {_first_lines(error)}") from error
    extras = {k.removeprefix("codes.extras."): v for k, v in tensors.items() if k.startswith("codes.extras.")}
    codes = Codes(tensors["codes.mu"], tensors.get("codes.log_var"), extras)
    return SavedModel(model.to(device).eval(), codes, meta, tensors.get("labels"))


def _check_kind(path: Path | str, meta: dict[str, Any], kind: str) -> None:
    if meta.get("kind") != kind:
        raise ValueError(f"{path} is a {meta.get('kind', 'foreign')} file, expected a {kind} file")


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
