"""The device and the precision that `auto` stands for on this machine, and torch's switches for them.

TF32 keeps 10 bits of a number's fraction, bf16 7: enough for the gradients of a network, too few for sums of exponents,
determinants and distances. Those compute in `full_precision`, whatever the caller has switched on.
"""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, ParamSpec, TypeVar

import torch

from geovae.checks import check_choice

Precision = Literal["auto", "fp32", "tf32", "bf16"]
PRECISIONS = ("auto", "fp32", "tf32", "bf16")
AMPERE = (8, 0)  # the first compute capability with TF32 and bf16
CONTEXT = 2**30  # bytes of a GPU that a process takes outside torch's allocator: about half of it for CUDA's context
# Torch reads this at a process's first matrix product on a GPU, and refuses deterministic ones ever after if it was not
# set; it sizes a workspace of 32 MiB, torch's own on recent cards.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
P = ParamSpec("P")
R = TypeVar("R")


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


def choose_precision(precision: str, device: torch.device) -> str:
    """Return the precision for a name: `auto` is bf16 on a GPU that computes in it, fp32 elsewhere.

    Raises:
        ValueError: for a name that is none of `PRECISIONS`.
    """
    check_choice("precision", precision, PRECISIONS)
    recent = device.type == "cuda" and torch.cuda.get_device_capability(device) >= AMPERE
    if precision == "auto":
        return "bf16" if recent else "fp32"
    return "fp32" if precision == "tf32" and not recent else precision


def limit_memory(share: float) -> None:
    """Keep this process to a `share` of the memory of its GPU: an allocation beyond it fails, in this process alone.

    Processes on one GPU see all of its memory, and without a limit the first to fill it starves the others.
    """
    if 0 < share < 1 and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(max(share - CONTEXT / total, share / 2))


def free_memory(device: torch.device) -> int:
    """Return how many bytes this process can still allocate on a GPU, of what is free there and of its own share."""
    free, total = torch.cuda.mem_get_info(device)
    find_share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)  # torch 2.6 has none
    return min(free, int(find_share(device) * total) - torch.cuda.memory_reserved(device))


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 in float32: without TF32 and without automatic mixed precision; restore both after.

    As a decorator it holds during each call. Torch's switches for TF32 belong to the process: threads share them.
    """
    mixed = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    with ExitStack() as stack:
        for kind in mixed:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(float32_products(tf32=False))
        yield


def keep_precision(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method of a tensor (n, d) compute in `full_precision`, at no cost on a CPU without mixed precision."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        z = args[1] if len(args) > 1 else None
        if isinstance(z, torch.Tensor) and (z.is_cuda or torch.is_autocast_enabled("cpu")):
            with full_precision():
                return method(*args, **kwargs)
        return method(*args, **kwargs)

    return call


@contextmanager
def float32_products(*, tf32: bool) -> Iterator[None]:
    """Let a GPU compute float32 products and convolutions in TF32 or in float32, and restore torch's switches after."""
    before = [(module, name, getattr(module, name)) for module, name in _switches()]
    wanted = [(module, name, _setting(value, tf32)) for module, name, value in before]
    if wanted == before:
        yield
        return
    try:
        for module, name, value in wanted:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


@contextmanager
def flushed_subnormals() -> Iterator[None]:
    """Let the CPU take subnormal numbers for 0 in this thread, as GPUs do.

    A penalty drives weights and their moments towards 0; products of subnormal ones take a hundred times as long.
    """
    before = float(torch.tensor(torch.finfo(torch.float32).tiny) / 2) == 0  # torch has a setter alone
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def deterministic_kernels(wanted: bool) -> Iterator[None]:
    """Compute with kernels that give the same bits each time, if `wanted`, and restore the switches after.

    Raises:
        RuntimeError: by torch, at an operation that has no such kernel on a GPU, or where products were computed before
            this module was imported, with another workspace of cuBLAS.
    """
    if not wanted:
        yield
        return
    before = torch.get_deterministic_debug_mode()
    torch.use_deterministic_algorithms(True)
    try:
        with fixed_convolutions():
            yield
    finally:
        torch.set_deterministic_debug_mode(before)


@contextmanager
def fixed_convolutions(wanted: bool = True) -> Iterator[None]:
    """Let cuDNN choose its convolutions without timing them, among those that give the same bits each time."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    if wanted:
        cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


@functools.cache
def _switches() -> list[tuple[Any, str]]:
    """Return where torch keeps its switches for matrix products and convolutions in float32: by name since 2.9."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv") and hasattr(cudnn.conv, "fp32_precision"):
        return [(module, "fp32_precision") for module in (matmul, cudnn.conv, cudnn.rnn)]
    return [(matmul, "allow_tf32"), (cudnn, "allow_tf32")]


def _setting(like: object, tf32: bool) -> object:
    return tf32 if isinstance(like, bool) else "tf32" if tf32 else "ieee"
