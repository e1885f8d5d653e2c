"""The peak of memory over all processes that a command starts: python benchmarks/memory.py make demo

Sums the proportional set sizes (shared pages are counted once) of all processes that start during the command. This
includes Ray's processes, which leave the command's process group. Linux only; start nothing else meanwhile.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil


def pss(process: psutil.Process) -> int:
    """Return the proportional set size of a process in bytes, 0 if it is gone."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def main() -> None:
    """Run the command and print the peak, and who had what then."""
    before = {process.pid for process in psutil.process_iter()} | {os.getpid()}
    started = time.perf_counter()
    command = subprocess.Popen(sys.argv[1:])
    peak: dict[str, int] = {}
    while command.poll() is None:
        now = {}
        for process in psutil.process_iter(["cmdline"]):
            if process.pid not in before:
                now[f"{process.pid} {' '.join(process.info['cmdline'] or [])[:70]}"] = pss(process)
        if sum(now.values()) > sum(peak.values()):
            peak = now
        time.sleep(0.5)
    took = time.perf_counter() - started
    print(
        f"peak {sum(peak.values()) / 2**30:.2f} GiB over {len(peak)} processes; {took:.0f} s, exit {command.returncode}"
    )
    for name, size in sorted(peak.items(), key=lambda item: -item[1])[:12]:
        print(f"{size / 2**20:6.0f} MiB  {name}")


if __name__ == "__main__":
    main()
