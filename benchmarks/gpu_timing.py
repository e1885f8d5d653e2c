"""The machine of `gpu.py` and what it reaches at most, and how times are taken.

They are medians of wall seconds with the GPU waited for; `spread` is the lowest and the highest, `first` the time of a
first call, which may compile.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from geovae.devices import float32_products

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
Row = dict[str, Any]
Cases = Iterator[tuple[str, Callable[[], Row]]]


def wait() -> None:
    """Wait for the GPU."""
    if CUDA:
        torch.cuda.synchronize()


def timed(action: Callable[[], object], repeats: int) -> Row:
    """Return the first call's seconds, and the median and spread of `repeats` further ones."""
    times = []
    for _ in range(repeats + 1):
        wait()
        started = time.perf_counter()
        action()
        wait()
        times.append(time.perf_counter() - started)
    rest = times[1:] or times
    return {"seconds": statistics.median(rest), "spread": [min(rest), max(rest)], "first": times[0]}


def ceilings(options: argparse.Namespace) -> Cases:
    """The machine, and what its memory and its matrix units reach."""
    size = 256 if options.dry else 8192

    def machine() -> Row:
        gpu = {"gpu": torch.cuda.get_device_name(), "gib": torch.cuda.mem_get_info()[1] / 2**30} if CUDA else {}
        matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        return {"torch": torch.__version__, "tf32_by_default": [matmul, cudnn], **gpu}

    def product(dtype: torch.dtype, tf32: bool) -> Row:
        a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
        with float32_products(tf32=tf32):
            row = timed(lambda: [a @ b for _ in range(5)], 3)
        return {**row, "tflops": 10 * size**3 / row["seconds"] / 1e12}

    def copy() -> Row:
        a = torch.randn(size * size * 16, device=DEVICE)
        b = torch.empty_like(a)
        row = timed(lambda: [b.copy_(a) for _ in range(10)], 3)
        return {**row, "tb_per_second": 80 * a.numel() / row["seconds"] / 1e12}

    yield "machine", machine
    yield "copy", copy
    for name, dtype, tf32 in (
        ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):
        yield f"product {name}", lambda dtype=dtype, tf32=tf32: product(dtype, tf32)
