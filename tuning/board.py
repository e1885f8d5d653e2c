"""What a sweep's own run shows: the leaderboard of configurations, parallel coordinates, importances."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from geovae.tracking import Tracker
from tuning.plan import Configuration
from tuning.search import importances
from tuning.space import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 30


def describe_board(
    board: Sequence[Configuration],
    configurations: Sequence[Configuration],
    space: Space,
    headline: str,
    tracker: Tracker,
) -> None:
    """Tell the tracker what the sweep found: table, figures, description.

    Args:
        board: the judged configurations, best first.
        configurations: all of them.
        space: that they come from.
        headline: name of the score.
        tracker: of the sweep's run.
    """
    text = table(board, configurations, headline)
    tracker.text("leaderboard.md", text)
    tracker.tags({"mlflow.note.content": text})
    if not board:
        return
    tracker.text("leaderboard.csv", as_csv(board, headline))
    rows = [(c.options, c.mean) for c in board]
    tracker.figure("parallel_coordinates.png", parallel_coordinates(rows, space, headline))
    if found := importances(rows, space):
        tracker.figure("importance.png", importance_figure(found))


def table(board: Sequence[Configuration], configurations: Sequence[Configuration], headline: str) -> str:
    """Return the leaderboard as a Markdown table, and what became of the others."""
    names = [name for c in board[:SHOWN] for name in c.options]
    names = list(dict.fromkeys(names))
    lines = [
        f"| # | configuration | {headline} | ± | runs | " + " | ".join(names) + " |",
        "|---|---|---|---|---|" + "---|" * len(names),
    ]
    for place, c in enumerate(board[:SHOWN], 1):
        values = " | ".join(_short(c.options[name]) if name in c.options else "" for name in names)
        spread = "" if math.isnan(c.stderr) else f"{c.stderr:.3f}"
        lines.append(f"| {place} | {c.name} | {c.mean:.3f} | {spread} | {len(c.scores)}/{len(c.runs)} | {values} |")
    counts = {"stopped early": "STOPPED", "failed": "FAILED", "cut off": "KILLED"}
    others = [f"{n} {words}" for words, s in counts.items() if (n := sum(c.state == s for c in configurations))]
    text = "\n".join(lines) if board else "No configuration was judged."
    more = f" {len(board) - SHOWN} more are in leaderboard.csv." if len(board) > SHOWN else ""
    return (
        f"{text}\n\n{len(board)} of {len(configurations)} configurations judged"
        f"{', ' + ', '.join(others) if others else ''}.{more} Ranked by seeds, then by the mean (± standard error) of "
        f"`{headline}` against the validation images; lower is better.\n"
    )


def as_csv(board: Sequence[Configuration], headline: str) -> str:
    """Return the leaderboard as a table for a spreadsheet."""
    names = list(dict.fromkeys(name for c in board for name in c.options))
    lines = [",".join(["configuration", headline, "stderr", "runs", *names])]
    for c in board:
        cells = [c.name, repr(c.mean), repr(c.stderr), str(len(c.scores)), *(str(c.options.get(n, "")) for n in names)]
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


def parallel_coordinates(rows: Sequence[tuple[Mapping[str, Any], float]], space: Space, headline: str) -> "Figure":
    """Return one line for each configuration through its options to its score, the better the darker."""
    from matplotlib import colormaps, pyplot

    axes = [d for d in space.dimensions if any(d.name in options for options, _ in rows)]
    scores = [score for _, score in rows]
    low, high = min(scores), max(scores)
    figure, ax = pyplot.subplots(figsize=(2.0 + 1.8 * (len(axes) + 1), 4.5), layout="constrained")
    for options, score in sorted(rows, key=lambda row: -row[1]):
        height = (score - low) / (high - low) if high > low else 0.5
        points = [(x, _height(d, options[d.name])) for x, d in enumerate(axes) if d.name in options]
        xs, ys = zip(*points, (len(axes), height), strict=True)
        ax.plot(xs, ys, color=colormaps["viridis"](0.9 * height), alpha=0.8)
    for x, d in enumerate(axes):
        ax.axvline(x, color="0.8", zorder=0)
        for value in d.values:
            ax.text(x, _height(d, value), f" {_short(value)}", fontsize=8, va="center", in_layout=False)
    ax.axvline(len(axes), color="0.8", zorder=0)
    for height, value in ((0, low), (1, high)):
        ax.text(len(axes), height, f" {value:.4g}", fontsize=8, va="center", in_layout=False)
    ax.set_xticks(range(len(axes) + 1), [*(d.name.partition(".")[2] for d in axes), headline], rotation=20)
    ax.set_yticks([])
    return figure


def importance_figure(found: Mapping[str, float]) -> "Figure":
    """Return the importances as bars."""
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(6, 0.8 + 0.35 * len(found)), layout="constrained")
    names = sorted(found, key=lambda name: found[name])
    ax.barh(names, [found[name] for name in names])
    ax.set_xlabel("part of the score's variation that the option explains (fANOVA)")
    return figure


def _height(dimension: Any, value: Any) -> float:
    if dimension.kind in ("choice", "grid"):
        return dimension.values.index(value) / max(1, len(dimension.values) - 1)
    low, high = dimension.values
    if dimension.kind == "log_uniform":
        low, high, value = math.log(low), math.log(high), math.log(value)
    return float((value - low) / (high - low))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
