"""How long users wait for the first answer: `python -m mlflow_projects.NAME --help` of every entry point.

    PYTHONPATH=. python benchmarks/help.py

CPU seconds (user and system) are what a quiet machine would show as time; on a busy one the time itself says little.
"""

import resource
import statistics
import subprocess
import sys
import time

import yaml

REPEATS = 3


def measure(command: list[str]) -> tuple[float, float]:
    """Return the CPU seconds and the seconds of a command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return cpu, time.perf_counter() - started


def main() -> None:
    """Print medians for each entry point, and for importing torch alone."""
    with open("MLproject") as file:
        names = yaml.safe_load(file)["entry_points"]
    commands = {"import torch": ["-c", "import torch"]} | {n: ["-m", f"mlflow_projects.{n}", "--help"] for n in names}
    print("| command | CPU seconds | seconds |\n|---|---|---|")
    for name, arguments in commands.items():
        found = [measure([sys.executable, *arguments]) for _ in range(REPEATS)]
        cpu, wall = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"| {name} | {cpu:.1f} | {wall:.1f} |", flush=True)


if __name__ == "__main__":
    main()
