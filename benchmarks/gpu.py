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
    from benchmarks.gpu_sections import SECTIONS

    log = Log(out, name)
    for case, measure in SECTIONS[name](options):
        if not re.search(options.cases, case):
            continue
        started = time.perf_counter()
        try:
            row = measure()
        except Exception:
            row = {"error": traceback.format_exc(limit=-4)[-1500:]}
        log.write(case=case, **row, took=round(time.perf_counter() - started, 2))


def find_tests() -> list[str]:
    """Return the files with tests that take a device."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if re.search(r"def test_.*\bdevice\b", file.read_text())]


def test_command(options: argparse.Namespace) -> list[str]:
    """Return pytest's command for the tests with a device."""
    chosen = ["-k", "cpu" if options.dry else "cuda"]
    files = ["tests/samplers/test_em.py"] if options.dry else find_tests()
    processes = ["-n", str(options.processes)] if options.processes > 1 else []
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rfE", "--tb=short",
            *processes, *chosen, *files]  # fmt: skip


def start(names: list[str], out: Path, options: argparse.Namespace) -> subprocess.Popen:
    """Start sections in a process of their own."""
    log = out.with_name(f"{out.stem}-{names[0]}.log").open("w")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, __file__, str(out), "--section", *names, "--data", str(options.data)]
    command += ["--epochs", str(options.epochs), "--cases", options.cases] + (["--dry"] if options.dry else [])
    command = test_command(options) if names == ["tests"] else command
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


def finish(names: list[str], process: subprocess.Popen, deadline: float, out: Path) -> None:
    """Wait until the sections of a process end or their time is over, and write how they ended."""
    started = time.perf_counter()
    try:
        code: int | str = process.wait(max(deadline - time.perf_counter(), 1))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = "out of time"
    log = out.with_name(f"{out.stem}-{names[0]}.log")
    output = log.read_text(errors="replace")
    with out.with_suffix(".log").open("a") as file:  # one file: a machine may return few
        file.write(f"==== {' '.join(names)}\n{output[-200_000:]}\n")
    log.unlink()
    row = {"ended": code, "waited": round(time.perf_counter() - started, 1)}
    if names == ["tests"] or code != 0:
        row["output"] = output[-3000:]
    for name in names:
        Log(out, name).write(**row)


def group(options: argparse.Namespace) -> list[list[list[str]]]:
    """Return the sections of each process: processes of a list run side by side, the lists one after another."""
    if options.dry:  # most of its time would be imports
        measured = [name for name in options.sections if name != "tests"]
        return [[names for names in (measured, [name for name in options.sections if name == "tests"]) if names]]
    timed = [[[name]] for name in options.sections if name not in SIDE_BY_SIDE]
    return [*timed, [[name] for name in options.sections if name in SIDE_BY_SIDE]]


def main() -> None:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sections", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--section", nargs="+", choices=LIMITS, help="run sections in this process")
    parser.add_argument("--data", type=Path, default=ROOT / "gpu_pack")
    parser.add_argument("--epochs", type=int, default=3, help="of the comparison of losses")
    parser.add_argument("--cases", default="", help="pattern of the cases to measure, by default all")
    parser.add_argument("--share", type=float, default=1.0, help="of each section's time limit")
    parser.add_argument("--processes", type=int, default=1, help="of the tests, through pytest-xdist")
    parser.add_argument("--dry", action="store_true", help="everything small")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.section or []:
        run_section(name, options.out, options)
    for groups in group(options) if not options.section else []:
        begun, processes = time.perf_counter(), [start(names, options.out, options) for names in groups]
        for names, process in zip(groups, processes, strict=True):
            limit = options.share * sum(LIMITS[name] for name in names)
            finish(names, process, begun + limit, options.out)


if __name__ == "__main__":
    main()
