"""Memory that a thread reuses for its gradients: on a CPU, fresh pages can cost as much as the arithmetic on them."""

import threading
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_name: dict[tuple[str, torch.dtype], Tensor] = {}


_BUFFERS = _Buffers()


def scratch(name: str, like: Tensor, rows: int, columns: Sequence[int]) -> list[Tensor]:
    """Return uninitialised matrices (rows, c), one for each c, of the type and on the device of `like`.

    They are valid until this thread calls `scratch` again with the same name and dtype. On a CPU each thread keeps its
    largest buffer: two threads may compute gradients at once. A GPU's allocator caches memory itself.
    """
    size = rows * sum(columns)
    buffer = _BUFFERS.by_name.get((name, like.dtype)) if like.device.type == "cpu" else like.new_empty(size)
    if buffer is None or len(buffer) < size:
        with torch.inference_mode(False):  # outside that mode its tensors could not be written to
            buffer = _BUFFERS.by_name[name, like.dtype] = torch.empty(size, dtype=like.dtype)
    starts = accumulate(columns, initial=0)
    return [buffer.as_strided((rows, c), (c, 1), rows * start) for c, start in zip(columns, starts, strict=False)]
