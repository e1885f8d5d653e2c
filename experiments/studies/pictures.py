"""The figures of study reports: one panel for each option of an ablation, scores against data, trade-offs, samples."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from experiments.judge import decode_images
from experiments.studies.execute import Outcome
from experiments.studies.plan import TRAINED
from experiments.studies.statistics import Line, distinct
from geovae.figures.evaluation import neighbour_figure
from geovae.samplers import SAMPLERS
from geovae.saved_model import SavedModel, load_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATIO = "nn_pixels_ratio"
SHOWN = 14


def size_curves(lines: Sequence[Line], sizes: Mapping[str, int]) -> "Figure":
    """Return scores and nearest train against the training size; one column for each family of data `<family> <size>`.

    `sizes` are the training images by name of the data.
    """
    from matplotlib import pyplot

    families = list(dict.fromkeys(line.data.split()[0] for line in lines))
    figure, axes = pyplot.subplots(
        2, len(families), figsize=(6 * len(families), 6.5), squeeze=False, sharex="col", layout="constrained"
    )
    for column, family in enumerate(families):
        own = sorted((line for line in lines if line.data.split()[0] == family), key=lambda line: sizes[line.data])
        for way in dict.fromkeys(line.way for line in own):
            curve = [line for line in own if line.way == way]
            for ax, key in zip(axes[:, column], (lines[0].headline, RATIO), strict=True):
                _bars(ax, [sizes[line.data] for line in curve], curve, key, "test", label=str(way))
        axes[0, column].set(title=family, xscale="log", ylabel=f"{lines[0].headline}, test images")
        _log_scale(axes[0, column])
        axes[1, column].set(xlabel="training images", ylabel="nearest train (1 is new)")
        axes[1, column].axhline(1, color="0.6", lw=0.8, ls="--")
        axes[1, column].set_xticks(sorted({sizes[line.data] for line in own}))
        axes[1, column].xaxis.set_major_formatter("{x:.0f}")
        axes[1, column].minorticks_off()
        axes[0, column].legend(fontsize="small")
    return figure


def option_panels(group: Sequence[Line]) -> "Figure":
    """Return, for variants named `<option> = <value>`, a panel of scores over one of nearest train for each option.

    All panels of scores have one scale, and all of nearest train.
    """
    from matplotlib import pyplot

    options: dict[str, list[Line]] = {}
    for line in group:
        if " = " in line.way.variant:
            options.setdefault(line.way.variant.partition(" = ")[0], []).append(line)
    columns = max(1, min(4, len(options)))
    rows = 2 * max(1, math.ceil(len(options) / columns))
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(3.5 * columns, 2 * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.set_visible(False)
    for i, (option, own) in enumerate(options.items()):
        pair = axes[2 * (i // columns) : 2 * (i // columns) + 2, i % columns]
        for ax, first in zip(pair, axes[:2, 0], strict=True):
            if ax is not first:
                ax.sharey(first)
        for ax, key in zip(pair, (group[0].headline, RATIO), strict=True):
            ax.set_visible(True)
            _bars(ax, range(len(own)), own, key, "val")
            _references(ax, group, key)
            ax.set_xticks(range(len(own)), [line.way.variant.partition(" = ")[2] for line in own], fontsize="small")
            ax.margins(x=0.2)
        pair[0].set(title=option)
        if i % columns == 0:
            pair[0].set_ylabel(group[0].headline, fontsize="small")
            pair[1].set_ylabel("nearest train", fontsize="small")
    _log_scale(axes[0, 0])
    axes[0, 0].legend(fontsize="x-small")
    return figure


def _log_scale(ax: "Axes") -> None:
    """Give `ax`, and all that share its scale, a logarithmic one with plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter("{x:g}")


def _references(ax: "Axes", group: Sequence[Line], key: str) -> None:
    trained = [line for line in group if line.way.variant == TRAINED]
    for line, colour in zip(trained, ("0.5", "tab:orange", "tab:green"), strict=False):
        ax.axhline(line.mean(key, "val"), color=colour, lw=1, ls="--", label=line.way.sampler)


def trade_off(group: Sequence[Line]) -> "Figure":
    """Return the score of every distinct way against its distance from the training set, both on validation images."""
    from matplotlib import pyplot

    head = group[0].headline
    figure, ax = pyplot.subplots(figsize=(8, 5.5), layout="constrained")
    ax.axvline(1, color="0.7", lw=1, ls="--")
    colours: dict[str, Any] = {}
    for line in distinct(group):
        option, _, value = line.way.variant.partition(" = ")
        option = option or line.way.sampler
        x, y = line.values(RATIO, "val"), line.values(head, "val")
        if x and y:
            bars = ax.errorbar(
                statistics.fmean(x),
                statistics.fmean(y),
                xerr=_sd(x),
                yerr=_sd(y),
                marker="s" if line.way.variant == TRAINED else "o",
                lw=0.7,
                color=colours.get(option),
                label=None if option in colours else option,
            )
            colours.setdefault(option, bars.lines[0].get_color())
            where = (statistics.fmean(x), statistics.fmean(y))
            ax.annotate(value or option, where, fontsize="x-small", xytext=(4, 3), textcoords="offset points")
    label = "nearest train: 1 is as new as held-out images, towards 0 copies"
    ax.set(xlabel=label, ylabel=f"{head}, validation images")
    _log_scale(ax)
    figure.legend(fontsize="small", loc="outside right upper")
    return figure


def sample_rows(outcomes: Sequence[Outcome]) -> "Figure":
    """Return a figure with one row of samples for each outcome and sampler."""
    rows = {}
    for outcome in outcomes:
        saved = load_model(outcome.model_file)
        for sampler in outcome.samplers:
            rows[f"{sampler} {outcome.variant}".strip()] = draw(saved, outcome, sampler, SHOWN)
    return neighbour_figure(rows)


def draw(saved: SavedModel, outcome: Outcome, sampler: str, n: int) -> torch.Tensor:
    """Return n images, uint8 (n, c, h, w), of one sampler under the outcome's options."""
    config = outcome.cell.configs[outcome.variant]
    one: Any = SAMPLERS[sampler](**config["sampler"].get(sampler, {}))
    return decode_images(saved.model, one.fit(saved.codes).sample(n, torch.Generator().manual_seed(config["seed"])))


def _bars(ax: "Axes", x: Sequence[float], lines: Sequence[Line], key: str, kind: str, **style: Any) -> None:
    """Draw means over seeds with one standard deviation."""
    values = [line.values(key, kind) for line in lines]
    means = [statistics.fmean(v) if v else math.nan for v in values]
    ax.errorbar(x, means, yerr=[_sd(v) for v in values], marker="o", ms=4, capsize=3, **style)


def _sd(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
