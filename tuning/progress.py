"""The progress of a sweep on the terminal: one table that is rewritten in place, or a line a minute in a log."""

import math
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, TextIO

LIVE, LOG = 0.5, 20.0  # seconds between two showings
SHOWN = 8


class Progress:
    """Hears the engine's events and shows what runs, what ended and what is best.

    Args:
        total: runs expected, None if that is not known.
        out: where to.
    """

    def __init__(self, total: int | None = None, out: TextIO | None = None) -> None:
        self.total, self.out = total, out or sys.stdout
        self.live = self.out.isatty()
        self.started = self._shown = time.monotonic()
        self.running: dict[str, str] = {}
        self.ended: Counter[str] = Counter()
        self.best = (math.inf, "")
        self._lines = 0

    def __call__(self, event: str, about: Mapping[str, Any]) -> None:
        """Hear an event: `start`, `epoch`, `end` of a job, or `step` as a chance to show."""
        if event == "start":
            self.running[about["job"].name] = "starting"
        elif event == "epoch" and "watched" in about["result"]:
            result = about["result"]
            self.running[about["job"].name] = f"epoch {result['epoch']}, {result['watched']:.4g}"
        elif event == "end":
            self._end(about["job"], about["run"])
        if time.monotonic() - self._shown > (LIVE if self.live else LOG):
            self.show()

    def _end(self, job: Any, run: Any) -> None:
        self.running.pop(job.name, None)
        self.ended[run.state] += 1
        if run.score is not None and run.score < self.best[0]:
            self.best = run.score, job.name
        if run.state == "FAILED":
            self._write(f"{job.name} failed: {run.reason}\n")

    def show(self) -> None:
        """Show how it stands now."""
        self._shown = time.monotonic()
        if not self.live:
            self._write(self.summary() + "\n")
            return
        lines = [self.summary(), *(f"  {name:12s} {text}" for name, text in list(self.running.items())[:SHOWN])]
        if len(self.running) > SHOWN:
            lines.append(f"  and {len(self.running) - SHOWN} more")
        up = f"\x1b[{self._lines}F\x1b[J" if self._lines else ""
        self.out.write(up + "\n".join(lines) + "\n")
        self.out.flush()
        self._lines = len(lines)

    def summary(self) -> str:
        """Return the state in one line."""
        done = sum(self.ended.values())
        seconds = time.monotonic() - self.started
        best = f"best {self.best[0]:.4g} ({self.best[1]})" if self.best[1] else "best -"
        counts = f"{done}{f' of {self.total}' if self.total else ''} done, {len(self.running)} running"
        counts += f", {self.ended['STOPPED']} stopped early" if self.ended["STOPPED"] else ""
        counts += f", {self.ended['FAILED']} failed" if self.ended["FAILED"] else ""
        left = (self.total or 0) - done
        rest = f", about {_clock(seconds / done * left)} left" if done and left > 0 else ""
        return f"{_clock(seconds)}  {best}; {counts}{rest}"

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()
        self._lines = 0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
