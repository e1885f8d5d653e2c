"""What several reports draw: means over seeds, scores against the distance from the training set, rows of samples."""

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Generator, Tensor

from experiments.leaderboard import Entry, Part, distinct
from experiments.page import Picture
from experiments.score_columns import RATIO
from experiments.studies.cells import TRAINED
from experiments.studies.execute import Outcome
from geovae.figures.evaluation import neighbour_figure
from geovae.saved_model import SavedModel, load_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 14  # samples in a row


def draw_means(ax: "Axes", x: Sequence[float], entries: Sequence[Entry], key: str, part: Part, **style: Any) -> None:
    """Draw the means of a score over seeds, with bars of one standard deviation."""
    deviations = [_deviation(entry.values(key, part)) for entry in entries]
    means = [entry.mean(key, part) for entry in entries]
    ax.errorbar(x, means, yerr=deviations, marker="o", ms=4, capsize=3, **style)


def use_log_scale(ax: "Axes") -> None:
    """Give `ax`, and all that share its scale, a logarithmic one with plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter("{x:g}")


def trade_off_picture(data: str, group: Sequence[Entry]) -> Picture:
    """Return the score of every distinct contender against its distance from the training set, on validation images."""
    from matplotlib.figure import Figure

    head = group[0].headline
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    ax = figure.add_subplot()
    ax.axvline(1, color="0.7", lw=1, ls="--")
    colours: dict[str, Any] = {}
    for entry in distinct(group):
        option, _, value = entry.contender.variant.partition(" = ")
        option = option or entry.contender.sampler
        at = entry.mean(RATIO, "val"), entry.mean(head, "val")
        if not math.isfinite(sum(at)):
            continue
        bars = ax.errorbar(
            *at,
            xerr=_deviation(entry.values(RATIO, "val")),
            yerr=_deviation(entry.values(head, "val")),
            marker="s" if entry.contender.variant == TRAINED else "o",
            lw=0.7,
            color=colours.get(option),
            label=None if option in colours else option,
        )
        colours.setdefault(option, bars.lines[0].get_color())
        ax.annotate(value or option, at, fontsize="x-small", xytext=(4, 3), textcoords="offset points")
    label = "nearest train: 1 is as new as held-out images, towards 0 copies"
    ax.set(xlabel=label, ylabel=f"{head}, validation images")
    use_log_scale(ax)
    figure.legend(fontsize="small", loc="outside right upper")
    caption = f"{data}: the score against the distance from the training set"
    return Picture(f"trade-{data}", caption, figure)


def sample_rows(outcomes: Sequence[Outcome]) -> "Figure":
    """Return a figure with one row of samples for each outcome and sampler."""
    rows = {}
    for outcome in outcomes:
        saved = load_model(outcome.model_file)
        for sampler in outcome.samplers:
            rows[f"{sampler} {outcome.variant}".strip()] = draw(saved, outcome, sampler, SHOWN)
    return neighbour_figure(rows)


def draw(saved: SavedModel, outcome: Outcome, sampler: str, n: int) -> Tensor:
    """Return n images, uint8 (n, c, h, w), of one sampler with the outcome's options and seed."""
    config = outcome.cell.configs[outcome.variant]
    fitted = saved.sampler(sampler, **config["sampler"].get(sampler, {}))
    return saved.decode(fitted.sample(n, Generator().manual_seed(config["seed"])))


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
