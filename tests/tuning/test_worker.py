"""Why a run failed, in words; the leaderboard's table and figures; progress on a terminal and in a log."""

import io
import math

import pytest
import torch

from tuning.engine import _failure
from tuning.plan import Run, Trial
from tuning.progress import Progress
from tuning.worker import reason


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("training diverged in epoch 3:\n loss is nan"), "training diverged in epoch 3: loss is nan"),
        (MemoryError(), "out of memory: the process could not allocate more"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory: CUDA out of memory."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory: DefaultCPUAllocator: can't"),
        (RuntimeError("size mismatch"), "RuntimeError: size mismatch"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_a_failed_run_says_why_in_one_line(error, sentence):
    assert reason(error).startswith(sentence)


class Lost:
    def __init__(self, text):
        self.text = text

    def get_error(self):
        return None

    def get_pickled_error(self):
        return self.text


def test_a_lost_process_says_why_in_one_line():
    assert _failure(Lost("ray.exceptions.OutOfMemoryError: task was killed")).startswith("out of memory: Ray's memory")
    assert "died on every attempt: a b" in _failure(Lost("a\nb"))


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("out", [io.StringIO(), Terminal()], ids=["log", "terminal"])
def test_progress_counts_what_runs_and_what_ended(out):
    progress = Progress(3, out)
    trials = [Trial(number, 0, {}) for number in range(3)]
    for trial in trials:
        progress("trial_start", {"trial": trial})
    progress("trial_result", {"trial": trials[0], "result": {"epoch": 4, "epochs": 8, "watched": 0.5}})
    progress.started -= 100
    assert " left" not in progress.summary()  # an early stop may be near or far
    progress.started += 100
    progress("trial_end", {"trial": trials[1], "run": Run(state="FINISHED", score=2.0)})
    progress("trial_end", {"trial": trials[2], "run": Run(state="FAILED", reason="training diverged")})
    progress.show()
    text = out.getvalue()
    assert "best 2 (c0001-s0); 2 of 3 done, 1 running, 1 failed" in text
    assert "c0002-s0 failed: training diverged" in text
    assert "epoch 4 of 8, 0.5" in text
    progress.show()
    assert ("\x1b[" in out.getvalue()) == out.isatty()
    assert math.isfinite(progress.best[0])
    progress.started -= 100
    assert "at most 0:00:20 left" in progress.summary()  # two and a half trials took 100 s
    progress("trial_end", {"trial": trials[0], "run": Run(state="FINISHED", score=3.0)})
    assert "3 of 3 done, 0 running" in progress.summary()
    assert " left" not in progress.summary()
