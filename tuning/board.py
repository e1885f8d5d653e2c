"""The report of a sweep: the leaderboard of configurations, parallel coordinates, importances, on one page."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.help import run_url
from experiments.leaderboard import BESIDE, COPIES, kid_of, marked
from experiments.page import Numbers, Part, Picture, write_page
from experiments.tables import SHARED, Cell, for_ui, leaderboard, link, shared_places
from geovae.evaluation import is_biased
from geovae.tracking import MlflowTracker
from tuning.plan import Configuration
from tuning.search import importances
from tuning.space import Dimension, Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 30  # configurations in the table
HOW_TO_READ = f"""Ranked by seeds, then by the mean (± standard error) of `{{head}}` against the validation images;
lower is better; configurations whose sampler copies come last. {SHARED}
The columns *test* are means over the same runs, each with its best sampler on validation images."""


def record_board(
    board: Sequence[Configuration],
    configurations: Sequence[Configuration],
    space: Space,
    headline: str,
    tracker: MlflowTracker,
) -> None:
    """Record the report of a sweep in its run: a page, its table and figures, and a description.

    `board` are the judged ones of `configurations`, the best first; `headline` is the name of their score.
    """
    tracker.text("leaderboard.md", table(board, configurations, headline))
    tracker.tags({"mlflow.note.content": description(board, configurations, headline, str(tracker.experiment_id))})
    if not board:  # the description says how the runs ended; a page would have nothing to show
        return
    url = partial(run_url, tracker.uri, str(tracker.experiment_id))
    title = f"Sweep of {len(configurations)} configurations"
    parts: list[Part] = [f"# {title}", table(board, configurations, headline, url)]
    rows = [(c.options, c.mean) for c in board]
    caption = "One line for each configuration through its options to its score, the better the darker"
    parts.append(Picture("parallel_coordinates", caption, parallel_coordinates(rows, space, headline)))
    if shares := importances(rows, space):
        caption = "What the options explain of the score's variation (fANOVA)"
        parts.append(Picture("importance", caption, importance_figure(shares)))
    parts.append(all_configurations(board, headline))
    folder = tracker.output / "report"
    for file in write_page(title, parts, folder):
        if file != Path("report.md"):  # the same as leaderboard.md with figures
            tracker.artifact(folder / file)


def description(
    board: Sequence[Configuration], configurations: Sequence[Configuration], headline: str, experiment_id: str
) -> str:
    """Return the leaderboard as the description of the sweep's run in MLflow's UI, with links within the UI."""
    return for_ui(table(board, configurations, headline, partial(run_url, "", experiment_id)))


def table(
    board: Sequence[Configuration],
    configurations: Sequence[Configuration],
    headline: str,
    url: Callable[[str], str] = lambda run_id: "",
) -> str:
    """Return the leaderboard as a Markdown table, and how the other configurations ended.

    `url` returns the address of a run, by its id.
    """
    columns: dict[str, Callable[[Configuration], Cell]] = {
        "configuration": lambda c: link(c.name, url(c.run_id) if c.run_id else ""),
        f"{headline} val": lambda c: c.mean,
        "±": lambda c: "" if math.isnan(c.stderr) else f"{c.stderr:.2g}",
    }
    mark = marked(headline, biased=any(is_biased(run.test_scores) for c in board for run in c.runs.values()))
    beside = {f"{headline} test{mark}": headline, "x decoded": "decoded_ratio", "KID test": kid_of(headline)} | BESIDE
    for title, key in beside.items():
        if any(_mean_test_score(key, c) is not None for c in board):
            columns[title] = partial(_mean_test_score, key)
    if any(c.copies for c in board):
        columns["novelty"] = lambda c: COPIES if c.copies else ""
    columns["runs"] = lambda c: f"{len(c.scores)}/{len(c.runs)}"
    for name in dict.fromkeys(name for c in board[:SHOWN] for name in c.options):
        columns[name] = partial(_option_cell, name)
    # a sweep whose configurations failed must not look like a small one
    counts = {"stopped early": "STOPPED", "failed": "FAILED", "cut off": "KILLED"}
    others = [f"{n} {words}" for words, s in counts.items() if (n := sum(c.state == s for c in configurations))]
    # configurations share a place whose scores over seeds differ by no more than noise
    places = shared_places(board, lambda c: c.scores_by_seed, lambda c: (c.copies, len(c.runs), c.state))
    text = leaderboard(board[:SHOWN], columns, places[:SHOWN]) if board else "No configuration was judged.\n"
    more = f" {len(board) - SHOWN} more are in leaderboard.csv." if len(board) > SHOWN else ""
    return (
        f"{text}\n{len(board)} of {len(configurations)} configurations judged"
        f"{', ' + ', '.join(others) if others else ''}.{more} {HOW_TO_READ.format(head=headline)}\n"
    )


def _mean_test_score(key: str, configuration: Configuration) -> Cell:
    """Return the mean over finished runs of a score on test images, each of its best sampler on validation images."""
    values = [run.test_scores[key] for run in configuration.runs.values() if key in run.test_scores]
    return statistics.fmean(values) if values else None


def _option_cell(name: str, configuration: Configuration) -> Cell:
    return _option_text(configuration.options.get(name, ""))


def all_configurations(board: Sequence[Configuration], headline: str) -> Numbers:
    """Return the whole leaderboard for programs."""
    names = list(dict.fromkeys(name for c in board for name in c.options))
    rows = [[c.name, c.mean, c.stderr, len(c.scores), *(c.options.get(name, "") for name in names)] for c in board]
    return Numbers("leaderboard", ["configuration", headline, "stderr", "runs", *names], rows)


def parallel_coordinates(rows: Sequence[tuple[Mapping[str, Any], float]], space: Space, headline: str) -> "Figure":
    """Return one line for each configuration through its options to its score, the better the darker."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    axes = [d for d in space.dimensions if any(d.name in options for options, _ in rows)]
    scores = [score for _, score in rows]
    low, high = min(scores), max(scores)
    figure = Figure(figsize=(2.0 + 1.8 * (len(axes) + 1), 4.5), layout="constrained")
    ax = figure.add_subplot()
    for options, score in sorted(rows, key=lambda row: -row[1]):  # the best last, above the others
        height = (score - low) / (high - low) if high > low else 0.5
        # options with a condition are absent from configurations that do not meet it: the line skips their axes
        points = [(x, _height(d, options[d.name])) for x, d in enumerate(axes) if d.name in options]
        xs, ys = zip(*points, (len(axes), height), strict=True)
        ax.plot(xs, ys, color=colormaps["viridis"](0.9 * height), alpha=0.8)
    for x, d in enumerate(axes):
        ax.axvline(x, color="0.8", zorder=0)
        for value in d.values:
            ax.text(x, _height(d, value), f" {_option_text(value)}", fontsize=8, va="center", in_layout=False)
    ax.axvline(len(axes), color="0.8", zorder=0)
    for height, value in ((0, low), (1, high)):
        ax.text(len(axes), height, f" {value:.4g}", fontsize=8, va="center", in_layout=False)
    ax.set_xticks(range(len(axes) + 1), [*(d.name.partition(".")[2] for d in axes), headline], rotation=20)
    ax.set_yticks([])
    return figure


def importance_figure(shares: Mapping[str, float]) -> "Figure":
    """Return the importances as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 0.8 + 0.35 * len(shares)), layout="constrained")
    ax = figure.add_subplot()
    names = sorted(shares, key=lambda name: shares[name])
    ax.barh(names, [shares[name] for name in names])
    ax.set_xlabel("part of the score's variation that the option explains (fANOVA)")
    return figure


def _height(dimension: Dimension, value: Any) -> float:
    """Return where a value lies on the axis of its option, from 0 to 1."""
    if dimension.kind in ("choice", "grid"):
        return dimension.values.index(value) / max(1, len(dimension.values) - 1)
    low, high = dimension.values
    if dimension.kind == "log_uniform":
        low, high, value = math.log(low), math.log(high), math.log(value)
    position: float = (value - low) / (high - low)
    return position


def _option_text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
