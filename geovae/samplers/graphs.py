"""CUDA graphs: the kernels of a function of tensors, recorded once and then launched together.

On small problems a GPU waits for the host: a transition of HMC launches about 300 kernels of microseconds each.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[..., tuple[Tensor, ...]]
"""A function of tensors to tensors that reads nothing back to the host and whose shapes follow from its arguments'."""


def capture(function: Step, *examples: Tensor) -> Step:
    """Return a function with the results of `function`, faster on a GPU for tensors like `examples`.

    Its results are valid until its next call. Elsewhere than on a GPU, and where recording fails, `function` itself is
    returned; for tensors of other shapes, types or devices it is called.
    """
    if not examples or any(example.device.type != "cuda" for example in examples):
        return function
    try:
        return Graph(function, examples)
    except RuntimeError:  # an operation that asks the host cannot be recorded
        torch.cuda.synchronize()
        return function


class Graph:
    """A recorded function, with the memory that it reads and writes."""

    def __init__(self, function: Step, examples: tuple[Tensor, ...]) -> None:
        """Run `function` once to warm up, and record it."""
        self.function = function
        self._inputs = [example.clone() for example in examples]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries allocate at a first call, which recording forbids
            function(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = function(*self._inputs)

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the results for `tensors`, in memory that the next call overwrites."""
        if not self.fits(tensors):
            return self.function(*tensors)
        for place, tensor in zip(self._inputs, tensors, strict=True):
            place.copy_(tensor)
        self._graph.replay()
        return self._outputs

    def fits(self, tensors: tuple[Tensor, ...]) -> bool:
        """Return whether the tensors are like those that were recorded."""
        kinds = [[(t.shape, t.dtype, t.device) for t in group] for group in (self._inputs, tensors)]
        return kinds[0] == kinds[1]
