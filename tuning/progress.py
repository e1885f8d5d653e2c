"""The progress of an engine: a table on a terminal, redrawn in place, or a line every 20 s in a log file.

Why not `tqdm` or Ray's reporter: neither shows which run trains at which epoch, which is best, and why others failed.
"""

import math
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TextIO

SHOWN = 8  # running trials in the table


class Progress:
    """A callback for the events of an `Engine` with `total` trials (None: unknown), which writes to `out` or stdout."""

    def __init__(self, total: int | None = None, out: TextIO | None = None) -> None:
        self.total, self.out = total, out or sys.stdout
        self.redraws = self.out.isatty()
        self.started = self._shown = time.monotonic()
        self.running: dict[str, str] = {}
        self.parts: dict[str, float] = {}  # how much of its epochs a running trial has trained
        self.ended: Counter[str] = Counter()
        self.best = (math.inf, "")
        self._n_lines = 0  # of the table that is on the terminal

    def __call__(self, event: str, details: Mapping[str, Any]) -> None:
        """Update the state after an event, and show it if the last time is long enough ago."""
        if event == "trial_start":
            self.running[details["trial"].name] = "starting"
        elif event == "trial_result" and "watched" in details["result"]:
            result = details["result"]
            name, epochs = details["trial"].name, result["epochs"]
            self.running[name] = f"epoch {result['epoch']} of {epochs}, {result['watched']:.4g}"
            self.parts[name] = result["epoch"] / epochs
        elif event == "trial_end":
            self._end(details["trial"].name, details["run"])
        if time.monotonic() - self._shown > (0.5 if self.redraws else 20.0):
            self.show()

    def _end(self, name: str, run: Any) -> None:
        self.running.pop(name, None)
        self.parts.pop(name, None)
        self.ended[run.state] += 1
        if run.score is not None and run.score < self.best[0]:
            self.best = run.score, name
        if run.state == "FAILED":
            self._write(f"{name} failed: {run.reason}\n", 0)

    def show(self) -> None:
        """Write the summary, on a terminal with the running trials."""
        self._shown = time.monotonic()
        if not self.redraws:
            running = "; ".join(f"{name} {text}" for name, text in list(self.running.items())[:2])
            self._write(f"{self.summary()}{f': {running}' if running else ''}\n", 0)
            return
        lines = [self.summary(), *(f"  {name:12s} {text}" for name, text in list(self.running.items())[:SHOWN])]
        lines += [f"  and {len(self.running) - SHOWN} more"] if len(self.running) > SHOWN else []
        back = f"\x1b[{self._n_lines}F\x1b[J" if self._n_lines else ""  # up to the old table's first line, and clear
        self._write(back + "\n".join(lines) + "\n", len(lines))

    def summary(self) -> str:
        """Return the state in one line."""
        done, seconds = sum(self.ended.values()), time.monotonic() - self.started
        best = f"best {self.best[0]:.4g} ({self.best[1]}); " if self.best[1] else ""
        counts = f"{done}{f' of {self.total}' if self.total else ''} done, {len(self.running)} running"
        for words, state in (("stopped early", "STOPPED"), ("failed", "FAILED")):
            counts += f", {self.ended[state]} {words}" if self.ended[state] else ""
        # parts of running trials count: else the time left would rise until the next trial ends
        trained = done + sum(self.parts.values())
        left = (self.total or 0) - trained
        # before a trial has ended nobody knows where an early stop is: the longest would be days
        rest = f", at most {timedelta(seconds=int(seconds / trained * left))} left" if done and left > 0 else ""
        return f"{timedelta(seconds=int(seconds))}  {best}{counts}{rest}"

    def _write(self, text: str, n_lines: int) -> None:
        self.out.write(text)
        self.out.flush()
        self._n_lines = n_lines
