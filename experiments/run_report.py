"""Runs side by side on one page: scores of every sampler over seeds, warnings, curves, samples and latent maps.

It does not know where runs are kept: a page is made of `Record`s.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.leaderboard import (
    Column,
    Contender,
    Entry,
    by_validation,
    how_to_read,
    one_seed,
    reference,
    score_table,
    scores_by_sampler,
)
from experiments.page import Gallery, Part, Picture, write_page
from experiments.tables import Cell, as_markdown, escape, link

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 10  # configurations whose curves and pictures are shown
Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Record:
    """One run, as a page needs it.

    `group` is the same for runs that differ in nothing but the seed; `headline` names the score that ranks; `curves`
    are (step, value) points by metric; `pictures` are PNG files by name (`samples/prior`, `figures/latent_map.png`).
    """

    name: str
    group: str
    seed: str
    run_id: str = ""
    headline: str = ""
    url: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Group:
    """The runs of one configuration, one for each seed, and the options that set it apart from the others."""

    runs: Sequence[Record]
    differs: str

    @property
    def name(self) -> str:
        """The name of the first of its runs."""
        return self.runs[0].name

    @property
    def label(self) -> str:
        """Its name and what sets it apart, for legends and heads of columns."""
        return ", ".join(filter(None, (self.name, self.differs)))

    def entries(self) -> list[Entry]:
        """Return an entry for each sampler; one without scores where nothing was drawn."""
        val = {run.seed: scores_by_sampler(run.metrics, "val_score") for run in self.runs}
        test = {run.seed: scores_by_sampler(run.metrics, "score") for run in self.runs}
        samplers = dict.fromkeys(sampler for scores in val.values() for sampler in scores)
        return [
            Entry(
                "",
                Contender(self.name, self.differs, sampler),
                self.runs[0].headline,
                {seed: scores.get(sampler, {}) for seed, scores in val.items()},
                {seed: scores.get(sampler, {}) for seed, scores in test.items()},
                runs=[link(run.seed or "run", run.url) for run in self.runs],
                undertrained=any(run.metrics.get("best/undertrained") for run in self.runs),
            )
            for sampler in samplers or [""]
        ]


def write_run_report(title: str, records: Sequence[Record], folder: Path, *, note: str = "") -> Path:
    """Write the page into `folder` and return its HTML file.

    Args:
        title: of the page.
        records: the runs; of two with one configuration and one seed the first counts.
        folder: for the page and its figures.
        note: a sentence below the title, such as the search that found the runs.

    Raises:
        ValueError: if there are no records.
    """
    if not records:
        raise ValueError("there is no run to report on")
    groups = group_runs(records)
    entries = [entry for group in groups for entry in group.entries()]
    shown = groups[:SHOWN]
    lead: dict[str, Column] = {
        "configuration": lambda entry: entry.contender.model + entry.mark,
        "differs in": lambda entry: entry.contender.variant,
        "sampler": lambda entry: entry.contender.sampler,
    }
    parts: list[Part] = [f"# {escape(title)}", escape(note), f"{one_seed(entries)}{score_table(entries, lead)}"]
    parts += [reference(by_validation(entries)), how_to_read(entries), "## Runs", _runs_table(groups)]
    if len(groups) > len(shown):
        parts.append(f"Below are the first {len(shown)}; {len(groups) - len(shown)} more are in the tables only.")
    if any(run.curves for group in shown for run in group.runs):
        parts += ["## Curves", Picture("curves", "Losses over epochs, one line for each run", curve_figure(shown))]
    if names := list(dict.fromkeys(name for group in shown for run in group.runs for name in run.pictures)):
        rows = {name: [_first_picture(group, name) for group in shown] for name in names}
        parts += ["## Pictures", Gallery([group.label for group in shown], rows)]
    write_page(title, parts, folder)
    return folder / "report.html"


def group_runs(records: Sequence[Record]) -> list[Group]:
    """Return the configurations, the best first, each with the options that set it apart from the others."""
    runs: dict[str, dict[str, Record]] = {}
    for record in records:
        runs.setdefault(record.group, {}).setdefault(record.seed, record)
    firsts = [next(iter(by_seed.values())) for by_seed in runs.values()]
    keys = sorted({key for record in firsts for key in record.options})
    # an option that only one model has takes one value among those that have it: it says no more than the model's name
    values = {key: {record.options[key] for record in firsts if key in record.options} for key in keys}
    differing = [key for key in keys if len(values[key]) > 1]
    groups = []
    for first, by_seed in zip(firsts, runs.values(), strict=True):
        texts = [f"{key}={first.options[key]}" for key in differing if key in first.options]
        groups.append(Group(list(by_seed.values()), ", ".join(texts)))
    best = {id(group): by_validation(group.entries())[0] for group in groups}
    order = by_validation(best.values())
    return sorted(groups, key=lambda group: order.index(best[id(group)]))


def _runs_table(groups: Sequence[Group]) -> str:
    rows: list[list[Cell]] = []
    for group in groups:
        for run in group.runs:
            numbers = [run.metrics.get("best/val_loss"), run.metrics.get("best/epoch")]
            warnings = "; ".join(run.warnings)
            rows.append([link(run.name, run.url), group.differs, run.seed, *numbers, warnings])
    return as_markdown(["run", "differs in", "seed", "validation loss", "of epoch", "warnings"], rows)


def _first_picture(group: Group, name: str) -> bytes | None:
    return next((run.pictures[name] for run in group.runs if name in run.pictures), None)


def curve_figure(groups: Sequence[Group]) -> "Figure":
    """Return a panel for each metric with the curves of all runs, a colour for each configuration."""
    from matplotlib.figure import Figure

    keys = list(dict.fromkeys(key for group in groups for run in group.runs for key in run.curves))
    columns = min(3, len(keys))
    rows = math.ceil(len(keys) / columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows + 0.25 * len(groups)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for panel, key in zip(panels, keys, strict=False):
        _draw_curves(panel, key, groups)
    for panel in panels[len(keys) :]:
        panel.set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", fontsize="small")
    return figure


def _draw_curves(panel: "Axes", key: str, groups: Sequence[Group]) -> None:
    values = []
    for number, group in enumerate(groups):
        for run in group.runs:
            points = [(x, y) for x, y in run.curves.get(key, ()) if math.isfinite(y)]
            xs, ys = [x for x, _ in points], [y for _, y in points]
            values += ys
            # `$` would begin a formula, and a label that begins with `_` is left out of a legend
            label = " " + group.label.replace("$", r"\$") if run is group.runs[0] else None
            panel.plot(xs, ys, color=f"C{number}", lw=1.2, marker=".", ms=3, label=label)
    panel.set(title=key.replace("$", r"\$"), xlabel="epoch")
    if values and min(values) > 0 and max(values) > 20 * min(values):
        panel.set_yscale("log")
