"""The sections of `gpu.py`: each yields pairs of a case and a function that measures it and returns its row."""

import argparse
from collections.abc import Callable

from benchmarks.gpu_sampling import sampling, tune
from benchmarks.gpu_timing import Cases, ceilings
from benchmarks.gpu_training import compile_, loss, steps, table1, training

SECTIONS: dict[str, Callable[[argparse.Namespace], Cases]] = {
    "ceilings": ceilings,
    "sampling": sampling,
    "tune": tune,
    "training": training,
    "steps": steps,
    "compile": compile_,
    "loss": loss,
    "table1": table1,
}
