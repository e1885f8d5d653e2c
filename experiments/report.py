"""Runs side by side on one self-contained HTML page: scores with their spread over seeds, curves, samples, latent maps.

It knows nothing of where the runs are kept: whoever has `Record`s can make a page. Everything is escaped.
"""

import base64
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geovae.evaluation import better, recorded_numbers

TEMPLATES = Path(__file__).parent / "templates"
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")
ARROWS = {"lower": "↓", "higher": "↑", "": ""}
WIDTH, HEIGHT = 360, 200  # of a chart, in pixels
SHOWN = 10  # configurations whose curves and pictures are shown
Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Record:
    """One run, as a page needs it.

    `group` is the same for runs that differ in nothing but the seed; `curves` are (step, value) points by metric;
    `pictures` are PNG files by name (`samples/prior`, `figures/latent_map.png`); `notes` are warnings.
    """

    name: str
    group: str
    seed: str
    run_id: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Group:
    """The runs of one configuration."""

    runs: list[Record]
    colour: str = "#000"
    differs: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its runs, or of the first where they are many."""
        return self.runs[0].name

    def values(self, metric: str) -> list[float]:
        """Return the metric of every run that has it."""
        return [run.metrics[metric] for run in self.runs if metric in run.metrics]

    def mean(self, metric: str) -> float:
        """Return the mean over the runs, infinite where none has it."""
        values = self.values(metric)
        return statistics.fmean(values) if values else math.inf


def render(title: str, records: Sequence[Record], *, note: str = "") -> str:
    """Return the page.

    Args:
        title: of the page.
        records: the runs; of two with one configuration and one seed the first counts.
        note: a sentence below the title, such as the search that found the runs.

    Raises:
        ValueError: if there are no records.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    if not records:
        raise ValueError("there is no run to report on")
    columns = _columns(records)
    groups = _groups(records, columns)
    shown = groups[:SHOWN]
    page = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return page.get_template("report.html").render(
        title=title,
        note=note,
        heads=[{"name": key, "arrow": ARROWS[_side(key)]} for key in columns],
        rows=[{"group": group, "cells": _cells(group, columns, groups)} for group in groups],
        shown=shown,
        hidden=len(groups) - len(shown),
        charts=[_chart(key, shown) for key in _keys(shown, "curves")],
        galleries=[_gallery(key, shown) for key in _keys(shown, "pictures")],
    )


def _columns(records: Sequence[Record]) -> list[str]:
    """Return the metrics of the table: the score by which runs are ranked, then the test scores, then the loss."""
    present = {key for record in records for key in record.metrics}
    ranked = sorted(key for key in present if key.startswith(("best/fid", "best/fd_")) and not key.endswith("_sd"))
    headline = [key.replace("best/", "score/") for key in ranked]
    wanted = [*ranked, *headline, *(f"score/{key}" for key in recorded_numbers()), "best/val_loss", "best/epoch"]
    return [key for key in dict.fromkeys(wanted) if key in present]


def _groups(records: Sequence[Record], columns: Sequence[str]) -> list[Group]:
    """Return the configurations, the best first, each with what sets it apart from the others."""
    runs: dict[str, dict[str, Record]] = {}
    for record in records:
        runs.setdefault(record.group, {}).setdefault(record.seed, record)
    found = [Group(list(by_seed.values())) for by_seed in runs.values()]
    found.sort(key=lambda group: group.mean(columns[0]) if columns else 0.0)
    keys = sorted({key for group in found for key in group.runs[0].options})
    # an option that only some models have says no more than the model's name
    said = {key: {g.runs[0].options[key] for g in found if key in g.runs[0].options} for key in keys}
    differing = [key for key in keys if len(said[key]) > 1]
    return [
        Group(
            group.runs,
            COLOURS[i % len(COLOURS)],
            {key: group.runs[0].options[key] for key in differing if key in group.runs[0].options},
        )
        for i, group in enumerate(found)
    ]


def _cells(group: Group, columns: Sequence[str], groups: Sequence[Group]) -> list[dict[str, Any]]:
    cells = []
    for key in columns:
        values, side = group.values(key), _side(key)
        means = [other.mean(key) for other in groups if other.values(key)]
        top = {"lower": min, "higher": max}[side](means) if side and len(means) > 1 else None
        text = f"{statistics.fmean(values):.4g}" if values else "-"
        spread = f"± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
        cells.append({"text": text, "spread": spread, "best": bool(values) and group.mean(key) == top})
    return cells


def _keys(groups: Sequence[Group], what: str) -> list[str]:
    return list(dict.fromkeys(key for group in groups for run in group.runs for key in getattr(run, what)))


def _chart(key: str, groups: Sequence[Group]) -> dict[str, Any]:
    """Return what the template draws of one metric: lines of points in pixels, and the ends of both axes."""
    lines = [(group, run, run.curves[key]) for group in groups for run in group.runs if run.curves.get(key)]
    points = [point for *_, curve in lines for point in curve if math.isfinite(point[1])]
    xs, ys = [x for x, _ in points] or [0.0], [y for _, y in points] or [0.0]
    logarithmic = min(ys) > 0 and max(ys) > 20 * min(ys)
    scale = math.log10 if logarithmic else float
    x0, x1, y0, y1 = min(xs), max(xs), scale(min(ys)), scale(max(ys))

    def place(x: float, y: float) -> str:
        across, up = (x - x0) / ((x1 - x0) or 1), (scale(y) - y0) / ((y1 - y0) or 1)
        return f"{across * WIDTH:.1f},{(1 - up) * HEIGHT:.1f}"

    return {
        "name": key,
        "logarithmic": logarithmic,
        "lines": [
            {
                "title": f"{run.name}, seed {run.seed}",
                "colour": group.colour,
                "points": " ".join(place(x, y) for x, y in curve if math.isfinite(y)),
            }
            for group, run, curve in lines
        ],
        "x": (f"{x0:g}", f"{x1:g}"),
        "y": (f"{min(ys):.4g}", f"{max(ys):.4g}"),
        "size": (WIDTH, HEIGHT),
    }


def _gallery(key: str, groups: Sequence[Group]) -> dict[str, Any]:
    """Return one picture of each configuration, of its first run that has it."""
    first = [(group, next((run for run in group.runs if key in run.pictures), None)) for group in groups]
    return {
        "name": key,
        "pictures": [
            {"group": group, "seed": run.seed, "data": base64.b64encode(run.pictures[key]).decode()}
            for group, run in first
            if run is not None
        ],
    }


def _side(key: str) -> str:
    """Return which side of a metric is better: `lower`, `higher`, or nothing where it does not judge."""
    return "lower" if key == "best/val_loss" else better(key)
