"""CUDA graphs: the kernels of a function of tensors, recorded once and then launched together.

On small problems a GPU waits for its host: a training step or a transition of HMC launches hundreds of kernels that
last microseconds each. A recording repeats them on the same memory, with random numbers that go on.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

Step = Callable[..., Any]
"""A function of tensors to tensors that reads nothing back to the host, and whose shapes follow from its arguments'."""


class Graph:
    """A recorded function: its results for new tensors are in memory that the next call overwrites.

    Args:
        function: run once before, since libraries allocate memory at a first call, which recording forbids.
        examples: tensors of the shapes and types that it is called with.
        generators: of the random numbers that it draws.
    """

    def __init__(self, function: Step, examples: Sequence[Tensor], generators: Sequence[Generator] = ()) -> None:
        """Record; nothing is computed."""
        self._inputs = [example.clone() for example in examples]
        self._graph = torch.cuda.CUDAGraph()
        for generator in generators:
            self._graph.register_generator_state(generator)
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = function(*self._inputs)

    def __call__(self, *tensors: Tensor) -> Any:
        """Return the results for `tensors`."""
        for place, tensor in zip(self._inputs, tensors, strict=True):
            place.copy_(tensor)
        self._graph.replay()
        return self._outputs

    def fits(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether the tensors are like those that were recorded."""
        kinds = [[(t.shape, t.dtype, t.device) for t in group] for group in (self._inputs, tensors)]
        return kinds[0] == kinds[1]


class Recorder:
    """A function that is recorded at its second call, on a GPU; its results are valid until the next call.

    Tensors unlike those of the recording, a CPU's, and functions that cannot be recorded are computed as ever.

    Args:
        function: as for `Graph`.
        generators: of the random numbers that it draws.
        enabled: whether to record at all.
    """

    def __init__(self, function: Step, *, generators: Sequence[Generator] = (), enabled: bool = True) -> None:
        self.function, self.generators, self.enabled = function, generators, enabled
        self._graph: Graph | None = None
        self._called = False

    def renew(self) -> None:
        """Forget the recording, whose numbers that are not tensors would stay as they were."""
        self._graph, self._called = None, False

    def __call__(self, *tensors: Tensor) -> Any:
        """Return what the function returns."""
        if not self.enabled or any(tensor.device.type != "cuda" for tensor in tensors):
            return self.function(*tensors)
        if self._graph is None and self._called:
            self._graph = self._record(tensors)
        self._called = True
        if self._graph is None or not self._graph.fits(tensors):
            return self.function(*tensors)
        return self._graph(*tensors)

    def _record(self, tensors: Sequence[Tensor]) -> Graph | None:
        used = [*self.generators, *torch.cuda.default_generators]
        states = [generator.clone_state() for generator in used]
        try:
            return Graph(self.function, tensors, self.generators)
        except RuntimeError:  # an operation that asks the host something, or too little memory
            torch.cuda.synchronize()
            for generator, state in zip(used, states, strict=True):  # they would go on as if they were recorded
                generator.graphsafe_set_state(state)
            self.enabled = False
            return None
