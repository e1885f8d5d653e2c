"""An ablation: scores over the values of each option, one option at a time; variants are named `<option> = <value>`."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from experiments.leaderboard import NOVELTY, Entry
from experiments.page import Part, Picture
from experiments.studies.cells import TRAINED, Study
from experiments.studies.execute import Outcome
from experiments.studies.ranking import by_data, rank_table
from experiments.studies.reports.scores import score_section
from experiments.studies.score_figures import draw_means, shade_copies, trade_off_picture, use_log_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4  # of panels


def ablation(study: Study, entries: list[Entry], outcomes: list[Outcome]) -> Iterator[Part]:
    """Yield for each data set a panel for each option, the trade-off and the scores, and the ranks."""
    for data, group in by_data(entries).items():
        yield f"## {data}"
        caption = f"{data}: validation score and code novelty, one option at a time"
        yield Picture(f"ablation-{data}", caption, option_panels(group))
        yield trade_off_picture(data, group)
        if default := {name for cell in study.cells for pair in cell.same.items() for name in pair}:
            names = ", ".join(name for name in study.variants if name in default)
            yield f"One setting, with all options at their defaults, under each of its values: {names}."
        yield score_section(group)
    yield rank_table(entries)


def option_panels(group: Sequence[Entry]) -> "Figure":
    """Return, for each option, a panel of scores above one of code novelty, both on validation images.

    All panels of scores have one scale, and all of code novelty.
    """
    from matplotlib.figure import Figure

    options: dict[str, list[Entry]] = {}
    for entry in group:
        option, equals, _ = entry.contender.variant.partition(" = ")
        if equals:
            options.setdefault(option, []).append(entry)
    columns = max(1, min(COLUMNS, len(options)))
    rows = max(1, math.ceil(len(options) / columns))
    figure = Figure(figsize=(3.5 * columns, 4 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_visible(False)
    for number, (option, entries) in enumerate(options.items()):
        row, column = divmod(number, columns)
        for key, ax, first in zip((group[0].headline, NOVELTY), axes[2 * row :, column], axes[:, 0], strict=False):
            _draw_panel(ax, first, key, entries, group)
            if column == 0:
                ax.set_ylabel("code novelty" if key == NOVELTY else key, fontsize="small")
        axes[2 * row, column].set(title=option)
    use_log_scale(axes[0, 0])
    axes[0, 0].legend(fontsize="x-small")
    return figure


def _draw_panel(ax: "Axes", first: "Axes", key: str, entries: Sequence[Entry], group: Sequence[Entry]) -> None:
    """Draw one option's values on the scale of `first`, with lines at the samplers that the models are trained with."""
    ax.set_visible(True)
    if ax is not first:
        ax.sharey(first)
    if key == NOVELTY:
        shade_copies(ax)
    draw_means(ax, range(len(entries)), entries, key, "val")
    trained = [entry for entry in group if entry.contender.variant == TRAINED and entry.contender.sampler != "prior"]
    for number, entry in enumerate(trained, start=1):
        label = entry.contender.sampler + ", published" * (entry.contender.sampler == "riemannian")
        ax.axhline(entry.mean(key, "val"), color=f"C{number}", lw=1, ls="--", label=label)
    values = [entry.contender.variant.partition(" = ")[2] for entry in entries]
    ax.set_xticks(range(len(entries)), values, fontsize="small")
    ax.margins(x=0.2)
