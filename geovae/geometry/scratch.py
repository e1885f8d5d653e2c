"""Memory that a thread's gradients use again: on a CPU fresh pages can cost as much as the arithmetic on them."""

import threading
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor


class _Rooms(threading.local):
    def __init__(self) -> None:
        self.rooms: dict[tuple[str, torch.dtype], Tensor] = {}


_ROOMS = _Rooms()


def scratch(name: str, like: Tensor, rows: int, columns: Sequence[int]) -> list[Tensor]:
    """Return uninitialised matrices (rows, c), one for each c, of the type and on the device of `like`.

    They are the thread's until it asks again for `name` and that type. On a CPU a thread keeps the largest room that
    it had; a GPU's allocator does so itself.
    """
    size = rows * sum(columns)
    room = _ROOMS.rooms.get((name, like.dtype)) if like.device.type == "cpu" else like.new_empty(size)
    if room is None or len(room) < size:
        with torch.inference_mode(False):  # outside that mode its tensors could not be written to
            room = _ROOMS.rooms[name, like.dtype] = torch.empty(size, dtype=like.dtype)
    starts = accumulate(columns, initial=0)
    return [room.as_strided((rows, c), (c, 1), rows * start) for c, start in zip(columns, starts, strict=False)]
