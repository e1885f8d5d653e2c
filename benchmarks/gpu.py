"""All that is measured on a GPU, in minutes, from a bare machine with CUDA's torch: JSON lines as it goes.

    PYTHONPATH=. python benchmarks/gpu.py OUT.jsonl [--sections training sampling ...] [--data gpu_pack] [--dry]

Every section is a process of its own with a time limit, so that a failure costs no more than itself; those without
times in their results run side by side at the end. `--dry` runs everything small, on a CPU too. `gpu_report.py` makes
tables of the lines; `gpu.sh` installs what `make gpu-pack` has packed and runs both.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TESTED = [
    "tests/test_devices.py",
    "tests/test_graphs.py",
    "tests/test_training.py",
    "tests/test_neighbours.py",
    "tests/samplers",
    "tests/geometry",
    "tests/models",
    "tests/evaluation/test_extractors.py",
    "tests/evaluation/test_random_conv.py",
    "tests/evaluation/test_scores.py",
]
LIMITS = {  # seconds of each section; those before `loss` are timed and run one after another
    "ceilings": 30,
    "sampling": 80,
    "tune": 60,
    "training": 60,
    "steps": 40,
    "compile": 120,
    "loss": 120,
    "tests": 120,
    "table1": 200,
}
SIDE_BY_SIDE = ("loss", "tests", "table1")
Row = dict[str, Any]
Rows = Iterator[Callable[[], Row]]


class Log:
    """JSON lines of a section, each on disk when it is written."""

    def __init__(self, path: Path, section: str) -> None:
        self.path, self.section = path, section

    def write(self, **row: Any) -> None:
        """Append a line."""
        line = json.dumps({"section": self.section, **row}, default=str)
        with self.path.open("a") as file:
            file.write(line + "\n")
        print(line[:300], flush=True)


def run_section(name: str, out: Path, options: argparse.Namespace) -> None:
    """Run a section in this process; a row that fails is a line with its error, and the next row goes on."""
    from benchmarks import gpu_sections

    log = Log(out, name)
    for case, measure in gpu_sections.SECTIONS[name](options):
        if not re.search(options.cases, case):
            continue
        started = time.perf_counter()
        try:
            row = measure()
        except Exception:
            row = {"error": traceback.format_exc(limit=-4)[-1500:]}
        log.write(case=case, **row, took=round(time.perf_counter() - started, 2))


def test_command(options: argparse.Namespace) -> list[str]:
    """Return pytest's command for the tests with a device."""
    chosen = ["-k", "cuda"] if not options.dry else ["-k", "generator or device", "--maxfail=3"]
    files = TESTED if not options.dry else TESTED[:1]
    processes = ["-n", str(options.processes)] if options.processes > 1 else []
    return [sys.executable, "-m", "pytest", "-p", "no:benchmark", "-p", "no:cacheprovider", "-rfE", "--tb=short",
            *processes, *chosen, *files]  # fmt: skip


def start(name: str, out: Path, options: argparse.Namespace) -> subprocess.Popen:
    """Start a section in a process of its own."""
    log = out.with_name(f"{out.stem}-{name}.log").open("w")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, __file__, str(out), "--section", name, "--data", str(options.data)]
    command += ["--epochs", str(options.epochs), "--cases", options.cases] + (["--dry"] if options.dry else [])
    command = test_command(options) if name == "tests" else command
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


def finish(name: str, process: subprocess.Popen, deadline: float, out: Path) -> None:
    """Wait until a section ends or its time is over, and write how it ended."""
    started = time.perf_counter()
    try:
        code: int | str = process.wait(max(deadline - time.perf_counter(), 1))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = "out of time"
    log = out.with_name(f"{out.stem}-{name}.log")
    output = log.read_text(errors="replace")
    with out.with_suffix(".log").open("a") as file:  # one file: a machine may return few
        file.write(f"==== {name}\n{output[-200_000:]}\n")
    log.unlink()
    row = {"ended": code, "waited": round(time.perf_counter() - started, 1)}
    if name == "tests" or code != 0:
        row["output"] = output[-3000:]
    Log(out, name).write(**row)


def main() -> None:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sections", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--section", choices=LIMITS, help="run one section in this process")
    parser.add_argument("--data", type=Path, default=ROOT / "gpu_pack")
    parser.add_argument("--epochs", type=int, default=3, help="of the comparison of losses")
    parser.add_argument("--cases", default="", help="pattern of the cases to measure, by default all")
    parser.add_argument("--share", type=float, default=1.0, help="of each section's time limit")
    parser.add_argument("--processes", type=int, default=1, help="of the tests, through pytest-xdist")
    parser.add_argument("--dry", action="store_true", help="everything small")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.section:
        return run_section(options.section, options.out, options)
    for name in [name for name in options.sections if name not in SIDE_BY_SIDE]:
        finish(name, start(name, options.out, options), time.perf_counter() + options.share * LIMITS[name], options.out)
    last = [name for name in options.sections if name in SIDE_BY_SIDE]
    processes = {name: start(name, options.out, options) for name in last}
    begun = time.perf_counter()
    for name, process in processes.items():
        finish(name, process, begun + options.share * LIMITS[name], options.out)
    return None


if __name__ == "__main__":
    main()
