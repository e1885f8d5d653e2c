"""Weights from a file into a module, without unpickling: a state dict, a Lightning checkpoint, safetensors."""

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
NESTED = ("state_dict", "model_state_dict")  # of Lightning; of pythae and many scripts


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a file: safetensors, or what `torch.save` wrote of a state dict or a checkpoint.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file needs unpickling, is damaged, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of weights at {path}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except Exception as error:  # safetensors raises its own and the system's errors
            raise ValueError(f"{path} is not a safetensors file, or is damaged: {error}") from error
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own, pickle's and zip's errors here
        raise ValueError(
            f"{path} holds more than tensors, or is damaged. Nothing is unpickled here, since that runs whatever a "
            "file says; where you trust it, write its weights alone: torch.save(model.state_dict(), 'weights.pt')"
        ) from error
    return _find_state_dict(stored, path)


def load_weights(module: Module, path: Path | str, *, prefix: str = "") -> Module:
    """Fill `module` with the weights of a file, every one of them, and return it in evaluation mode.

    Args:
        module: with the architecture that the weights are of.
        path: of a state dict, a Lightning checkpoint or a safetensors file.
        prefix: of the names in the file that belong to `module`, such as "model." if a Lightning module holds it as
            `self.model`.

    Raises:
        ValueError: if names or shapes differ.
    """
    weights = read_weights(path)
    chosen = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(chosen)
    except RuntimeError as error:
        reason, first = " ".join(str(error).split())[:300], ", ".join(list(weights)[:3])
        raise ValueError(
            f"the weights in {path} are not those of this {type(module).__name__}: {reason}. Its names begin with "
            f"{first}; `prefix` (now {prefix!r}) chooses and shortens them"
        ) from error
    return module.eval()


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a file of JSON.

    Raises:
        ValueError: if it holds none.
    """
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a mapping, got {type(content).__name__}")
    return content


def _find_state_dict(stored: Any, path: Path) -> dict[str, Tensor]:
    for name in NESTED:
        if isinstance(stored, dict) and isinstance(stored.get(name), dict):
            stored = stored[name]
    if not isinstance(stored, dict) or not stored or not all(isinstance(value, Tensor) for value in stored.values()):
        raise ValueError(f"{path} holds no state dict: expected tensors by name, alone or under {' or '.join(NESTED)}")
    return stored
