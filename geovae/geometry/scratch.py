"""Memory that a thread's gradients use again: on a CPU fresh pages can cost as much as the arithmetic on them."""

import threading

import torch
from torch import Tensor


class _Rooms(threading.local):
    def __init__(self) -> None:
        self.rooms: dict[tuple[str, torch.dtype], Tensor] = {}


_ROOMS = _Rooms()


def scratch(name: str, size: int, like: Tensor) -> Tensor:
    """Return `size` uninitialised numbers of the type and device of `like`, valid until the thread's next call for
    `name` and that type. On a CPU a thread keeps the largest room that it asked for; a GPU's allocator does so itself.
    """
    if like.device.type != "cpu":
        return like.new_empty(size)
    room = _ROOMS.rooms.get((name, like.dtype))
    if room is None or len(room) < size:
        with torch.inference_mode(False):  # outside that mode its tensors could not be written to
            room = _ROOMS.rooms[name, like.dtype] = torch.empty(size, dtype=like.dtype)
    return room[:size]
