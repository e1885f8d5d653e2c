"""Several runs side by side: the file that lists them, and the leaderboard of what they scored."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import Config, ConfigError, Options, read_yaml, rename, resolve
from experiments.judge import Result
from experiments.run import check_config

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard: a run's images drawn by one sampler."""

    run: str
    sampler: str
    headline: str
    val: float
    test: dict[str, float]


def read_comparison(path: Path, options: Options, prog: str) -> dict[str, Config]:
    """Return the checked configuration of each run of a comparison file; `options` apply to all of them.

    Raises:
        ConfigError: if the file or any of its runs is not valid.
    """
    content = read_yaml(path)
    if not isinstance(content.get("runs"), dict) or content.keys() > {"dataset", "runs"} or not content["runs"]:
        raise ConfigError(f"{path} must hold `dataset: NAME` and `runs: {{name: options}}`")
    dataset = {"data.name": content["dataset"]} if "dataset" in content else {}
    configs = {}
    for name, own in content["runs"].items():
        try:
            configs[name] = check_config(resolve(dataset | rename(own or {}) | options, prog=prog))
        except ValueError as error:
            raise ConfigError(f"run {name!r}: {error}") from error
    return configs


def leaderboard(results: Mapping[str, Result]) -> list[Row]:
    """Return one row for each run and sampler, best validation score first."""
    rows = [
        Row(name, sampler, result.headline, scores[result.headline], result.test_scores.get(sampler, {}))
        for name, result in results.items()
        for sampler, scores in result.val_scores.items()
    ]
    return sorted(rows, key=lambda row: row.val)


COLUMNS = ("prd_f8", "prd_f1_8", "nn_pixels_ratio")


def as_markdown(board: list[Row]) -> str:
    """Return the leaderboard as a Markdown table, with what its columns mean."""
    head = board[0].headline
    perfect = f"real_{head}"
    lines = [
        f"| # | run | sampler | {head} val | {head} test | PRD F8 | PRD F1/8 | nearest train |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for place, row in enumerate(board, 1):
        cells = [row.test.get(key, float("nan")) for key in (head, *COLUMNS)]
        numbers = " | ".join(f"{value:.3f}" for value in (row.val, *cells))
        lines.append(f"| {place} | {row.run} | {row.sampler} | {numbers} |")
    note = "" if head == "fid" else " It is not FID: the features are not Inception's."
    return "\n".join(lines) + (
        f"\n\nRanked by `{head}` against the validation images (lower is better); real against real images gives "
        f"{board[0].test.get(perfect, float('nan')):.3f} on the test set.{note} PRD: higher is better. "
        "*nearest train*: distance of a sample to its nearest training image over that of a held-out image "
        "(1 is as new as real data, 0 a copy).\n"
    )


def winner_line(board: list[Row]) -> str:
    """Return what won, and by how much: against the next model, or the next sampler where there is one model."""
    best, rest = board[0], [row for row in board if row.run != board[0].run]
    said = f"{best.run} with the {best.sampler} sampler wins: {best.headline} {best.val:.3f}"
    if rest:
        return f"{said} against {rest[0].val:.3f} of the next model, {rest[0].run} with the {rest[0].sampler} sampler."
    if len(board) > 1:
        return f"{said} against {board[1].val:.3f} of the next sampler, {board[1].sampler}."
    return f"{said}; nothing else was drawn."


def for_ui(markdown: str) -> str:
    """Return Markdown whose table cells keep apart in MLflow's UI, which gives them no padding."""
    lines = markdown.split("\n")
    return "\n".join(line.replace(" |", "&ensp; |") if line.startswith("| ") else line for line in lines)


def as_csv(board: list[Row]) -> str:
    """Return the leaderboard with all test scores as a table for programs; the UI shows it as one, too."""
    text = io.StringIO()
    keys = list(dict.fromkeys(key for row in board for key in row.test))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["place", "run", "sampler", f"val_{board[0].headline}", *(f"test_{key}" for key in keys)])
    for place, row in enumerate(board, 1):
        writer.writerow([place, row.run, row.sampler, row.val, *(row.test.get(key, "") for key in keys)])
    return text.getvalue()


def as_figure(board: list[Row]) -> "Figure":
    """Return the leaderboard as a bar chart."""
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(7, 0.5 + 0.4 * len(board)), layout="constrained")
    names = [f"{row.run} / {row.sampler}" for row in reversed(board)]
    ax.barh(names, [row.val for row in reversed(board)], color="tab:blue")
    ax.set_xlabel(f"{board[0].headline} against the validation images (lower is better)")
    return figure
