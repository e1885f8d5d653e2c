"""A GPU to test with where there is none: tensors of the device `meta` that have values, and refuse what a GPU refuses.

    with StandInGpu():
        z = sampler.fit(codes.to("meta")).sample(100, Generator().manual_seed(0))

The CPU computes, so that values are those of the CPU bit for bit. Like CUDA it refuses to mix tensors of both devices,
except for single numbers and for indices on the host, and generators of the other device. The name `cuda` would ask for
a driver. Fused optimizers are missing.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class GpuTensor(Tensor):
    """A tensor of the stand-in, around the CPU's tensor that has its values."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "GpuTensor":
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset(), "dtype": values.dtype}
        made = Tensor._make_wrapper_subclass(cls, values.size(), **layout, device="meta")
        made.values = values
        return made

    def __repr__(self) -> str:
        return f"GpuTensor({self.values})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class StandInGpu(TorchDispatchMode):
    """While it holds, `device="meta"` is the stand-in."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: Any) -> Any:
    """Compute on the CPU what torch asks for, and put the result where it belongs."""
    leaves = tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    wanted = [leaf.type for leaf in leaves if isinstance(leaf, torch.device)]
    device = wanted[0] if wanted else find_device(func, args, tensors)
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != device:
        raise RuntimeError(f"{func}: expected a {device!r} device type for generator but found {generator.device.type}")
    inner = tree_map_only(GpuTensor, lambda tensor: tensor.values, (args, kwargs))
    inner_args, inner_kwargs = tree_map_only(torch.device, lambda _: torch.device("cpu"), inner)
    result = func(*inner_args, **inner_kwargs)
    if device == "cpu":
        return result
    result = tree_map_only(Tensor, GpuTensor, result)
    from_gpu = any(isinstance(tensor, GpuTensor) for tensor in tensors)
    return return_and_correct_aliasing(func, args, kwargs, result) if from_gpu else result


def find_device(func: Any, args: Any, tensors: list[Tensor]) -> str:
    """Return the device of an operation's tensors, which must agree."""
    if func in COPIES:
        return args[0].device.type
    if func in INDEXING and args[0].device.type != "cpu":
        tensors = [args[0], *(leaf for leaf in args[2:] if isinstance(leaf, Tensor))]
    kinds = {tensor.device.type for tensor in tensors if tensor.ndim}
    if len(kinds) > 1:
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found {sorted(kinds)}")
    return "meta" if any(tensor.device.type == "meta" for tensor in tensors) else "cpu"
