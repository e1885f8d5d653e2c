"""The device that `auto`, `cpu` or `cuda` stands for on this machine."""

import torch


def choose_device(device: str) -> torch.device:
    """Return the device for a name: `auto` is the GPU where there is one.

    Raises:
        ValueError: for another name, or `cuda` without a GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"`device` must be auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("`device` is cuda, but torch sees no GPU here; use auto or cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
