"""Why a run failed, in words; the leaderboard's table and figures; progress on a terminal and in a log."""

import io
import math

import pytest
import torch
from matplotlib import pyplot

from tuning.board import as_csv, importance_figure, parallel_coordinates, table
from tuning.engine import _failure
from tuning.plan import Configuration, Run, Trial
from tuning.progress import Progress
from tuning.space import parse_space
from tuning.worker import reason

SPACE = parse_space(
    {
        "search": {
            "model.name": {"choice": ["vae", "ae"]},
            "model.beta": {"log_uniform": [0.01, 1.0], "when": {"model.name": "vae"}},
        }
    },
    "here",
)


def judged(number, options, *scores):
    runs = {seed: Run(state="FINISHED", score=score) for seed, score in enumerate(scores)}
    return Configuration(number, options, runs)


BOARD = [judged(0, {"model.name": "vae", "model.beta": 0.1}, 1.0, 3.0), judged(1, {"model.name": "ae"}, 4.0)]


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


def test_the_table_shows_configurations_with_their_spread_and_counts_the_others():
    stopped = Configuration(2, {"model.name": "ae"}, {0: Run(state="STOPPED")})
    failed = Configuration(3, {"model.name": "ae"}, {0: Run(state="FAILED")})
    text = table(BOARD, [*BOARD, stopped, failed], "fd_pixels")
    assert "| 1 | c0000 | 2.000 | 1.000 | 2/2 | vae | 0.1 |" in text
    assert "| 2 | c0001 | 4.000 |  | 1/1 | ae |  |" in text
    assert "2 of 4 configurations judged, 1 stopped early, 1 failed." in text
    assert "No configuration was judged." in table([], [failed], "fd_pixels")
    assert as_csv(BOARD, "fd").splitlines()[1] == "c0000,2.0,1.0,2,vae,0.1"


def test_lines_end_at_their_scores():
    figure = parallel_coordinates([(c.options, c.mean) for c in BOARD], SPACE, "fd_pixels")
    lines = [line for line in figure.axes[0].get_lines() if len(set(line.get_xdata())) > 1]
    found = [[(float(x), float(y)) for x, y in line.get_xydata()] for line in lines]
    assert [(0.0, 1.0), (2.0, 1.0)] in found  # ae, no beta, the worst
    assert [(0.0, 0.0), (1.0, 0.5), (2.0, 0.0)] in found  # vae, half-way in the logarithm, the best
    bars = importance_figure({"model.beta": 0.75, "model.name": 0.25}).axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.25, 0.75]
    pyplot.close("all")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("out", [io.StringIO(), Terminal()], ids=["log", "terminal"])
def test_progress_counts_what_runs_and_what_ended(out):
    progress = Progress(3, out)
    trials = [Trial(number, 0, {}) for number in range(3)]
    for trial in trials:
        progress("trial_start", {"trial": trial})
    progress("trial_result", {"trial": trials[0], "result": {"epoch": 4, "watched": 0.5}})
    progress("trial_end", {"trial": trials[1], "run": Run(state="FINISHED", score=2.0)})
    progress("trial_end", {"trial": trials[2], "run": Run(state="FAILED", reason="training diverged")})
    progress.show()
    text = out.getvalue()
    assert "best 2 (c0001-s0); 2 of 3 done, 1 running, 1 failed" in text
    assert "c0002-s0 failed: training diverged" in text
    assert ("epoch 4, 0.5" in text) == out.isatty()
    progress.show()
    assert ("\x1b[" in out.getvalue()) == out.isatty()
    assert math.isfinite(progress.best[0])
    assert " left" in progress.summary()
    progress("trial_end", {"trial": trials[0], "run": Run(state="FINISHED", score=3.0)})
    assert "3 of 3 done, 0 running" in progress.summary()
    assert " left" not in progress.summary()
