"""Work in several processes, which start without the caller's script."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in the order in which they finish.

    `function` belongs to a module, so that another process can import it, and items can be pickled. `workers` is the
    number of processes, None for one a core; one worker is this process.
    """
    workers = min(workers or count_cores(), len(items))
    if workers <= 1:
        yield from map(function, items)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    # spawn: a fork copies the locks of torch's and MLflow's threads, and can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        with hide_main():
            futures = [pool.submit(function, item) for item in items]  # this starts all workers
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def hide_main() -> Iterator[None]:
    """Start processes inside this block without importing the caller's script again."""
    # `spawn` has no option for it: each worker imports the file or module that `__main__` names here. Our workers need
    # nothing of it, its imports (torch, mlflow) take seconds, and a script without a main guard would run again.
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {name: vars(main).pop(name) for name in ("__spec__", "__file__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def count_cores() -> int:
    """Return the number of cores that this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
