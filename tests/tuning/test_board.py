"""The report of a sweep: its table, its figures, its page with links to the runs, and its file for programs."""

import csv
import re

from geovae.tracking import NullTracker
from tuning.board import all_configurations, importance_figure, parallel_coordinates, record_board, table
from tuning.plan import Configuration, Run, ranked
from tuning.space import parse_space

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


def test_the_table_shows_configurations_with_their_spread_and_counts_the_others():
    stopped = Configuration(2, {"model.name": "ae"}, {0: Run(state="STOPPED")})
    failed = Configuration(3, {"model.name": "ae"}, {0: Run(state="FAILED")})
    text = table(BOARD, [*BOARD, stopped, failed], "fd_pixels")
    assert "| 1 | c0000 | 2 | 1 | 2/2 | vae | 0.1 |" in text
    assert "| 2 | c0001 | 4 |  | 1/1 | ae |  |" in text
    assert "2 of 4 configurations judged, 1 stopped early, 1 failed." in text
    assert "No configuration was judged." in table([], [failed], "fd_pixels")
    assert all_configurations(BOARD, "fd").rows[0] == ["c0000", 2.0, 1.0, 2, "vae", 0.1]


def test_configurations_that_copy_come_last_and_equal_ones_share_a_place():
    copier = judged(0, {}, 1.0, 1.0)
    for run in copier.runs.values():
        run.novelty = 0.5
    a, b = judged(1, {}, 4.0, 6.0), judged(2, {}, 5.0, 5.5)
    board = ranked([copier, a, b])
    assert [c.number for c in board] == [1, 2, 0]
    text = table(board, board, "fid")
    assert "| 1= | c0001 |" in text
    assert "| 1= | c0002 |" in text
    assert "| 3 | c0000 | 1 | 0 | copies |" in text


def test_lines_end_at_their_scores():
    figure = parallel_coordinates([(c.options, c.mean) for c in BOARD], SPACE, "fd_pixels")
    lines = [line for line in figure.axes[0].get_lines() if len(set(line.get_xdata())) > 1]
    found = [[(float(x), float(y)) for x, y in line.get_xydata()] for line in lines]
    assert [(0.0, 1.0), (2.0, 1.0)] in found  # ae, no beta, the worst
    assert [(0.0, 0.0), (1.0, 0.5), (2.0, 0.0)] in found  # vae, half-way in the logarithm, the best
    bars = importance_figure({"model.beta": 0.75, "model.name": 0.25}).axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.25, 0.75]


def test_scores_on_test_images_are_means_over_the_runs():
    def run(fd, kid):
        return Run(state="FINISHED", score=1.0, test_scores={"fd_pixels": fd, "kid_pixels": kid})

    text = table([Configuration(0, {}, {0: run(2.0, 0.25), 1: run(4.0, 0.75)})], [], "fd_pixels")
    assert text.splitlines()[0] == "| # | configuration | fd_pixels val | ± | fd_pixels test (weak) | KID test | runs |"
    assert "| 1 | c0000 | 1 | 0 | 3 | 0.5 | 2/2 |" in text


class Kept(NullTracker):
    """Keeps what it is given."""

    uri, experiment_id = "http://me:secret@host", "7"

    def __init__(self, output):
        self.output, self.files, self.descriptions = output, {}, []

    def text(self, name, text):
        self.files[name] = text

    def artifact(self, path, folder=""):
        self.files[path.name] = path.read_bytes()

    def tags(self, values):
        self.descriptions.append(values["mlflow.note.content"])


def test_the_page_holds_table_and_figures_and_leads_to_the_runs(tmp_path):
    BOARD[0].run_id = "r0"
    hostile = Configuration(2, {"model.name": 'v,"|<b>'}, {0: Run(state="FINISHED", score=5.0)})
    tracker = Kept(tmp_path)
    space = parse_space({"search": {"model.name": {"choice": ["vae", "ae", 'v,"|<b>']}}}, "here")
    record_board([*BOARD, hostile], [*BOARD, hostile], space, "fd", tracker)
    assert {"leaderboard.md", "leaderboard.csv", "parallel_coordinates.png", "report.html"} <= tracker.files.keys()
    page = tracker.files["report.html"].decode()
    assert 'href="http://host/#/experiments/7/runs/r0?workflowType=machine_learning"' in page
    assert "secret" not in page
    assert "<b>" not in page
    figures = [name for name in tracker.files if name.endswith(".png")]
    assert page.count('<img src="data:image/png;base64,') == len(figures)
    assert not re.search(r'src="(?!data:)', page)
    assert "[c0000](#/experiments/7/runs/r0?workflowType=machine_learning)" in tracker.descriptions[0]
    rows = list(csv.DictReader(tracker.files["leaderboard.csv"].decode().splitlines()))
    assert rows[2]["model.name"] == 'v,"|<b>'
    assert rows[0]["model.beta"] == "0.1"
