"""What several reports draw: means over seeds, scores against the distance from the training set, rows of samples."""

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Generator, Tensor

from experiments.leaderboard import COPIES, NOVELTY, Entry, Part, distinct
from experiments.page import Picture
from experiments.studies.cells import TRAINED
from experiments.studies.execute import Outcome
from geovae.evaluation import LEAST_NOVELTY
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


def shade_copies(ax: "Axes") -> None:
    """Shade where samplers copy, on an axis of code novelty."""
    ax.axhspan(0, LEAST_NOVELTY, color="0.94", zorder=0)


def trade_off_picture(data: str, group: Sequence[Entry]) -> Picture:
    """Return the score over the decoder's floor against code novelty, on validation images: a curve for each option.

    The variant `option = value` belongs to the curve `option`, a trained model's sampler to the curve of its name.
    """
    from matplotlib.figure import Figure

    head = group[0].headline
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    ax = figure.add_subplot()
    ax.axhline(1, color="0.5", lw=1, ls="--", label="decoded held-out codes")
    ax.axvspan(0, LEAST_NOVELTY, color="0.94", label=COPIES)
    for option, curve in _curves(group).items():
        points = [(entry.mean(NOVELTY, "val"), entry.mean("decoded_ratio", "val")) for entry in curve]
        (line,) = ax.plot(*zip(*sorted(points), strict=True), lw=1, label=option)
        for at, entry in zip(points, curve, strict=True):
            ax.errorbar(
                *at,
                xerr=_deviation(entry.values(NOVELTY, "val")),
                yerr=_deviation(entry.values("decoded_ratio", "val")),
                marker="s" if entry.contender.variant == TRAINED else "o",
                ms=5,
                lw=0.7,
                color=line.get_color(),
            )
            value = entry.contender.variant.partition(" = ")[2]
            ax.annotate(value, at, fontsize="x-small", xytext=(4, 3), textcoords="offset points")
    ax.set(xlabel="code novelty: 1 is as far from the training codes as new data", ylabel=f"{head} over the floor")
    use_log_scale(ax)
    figure.legend(fontsize="small", loc="outside right upper")
    caption = f"{data}: quality against novelty, validation images; bars are one standard deviation over seeds"
    return Picture(f"trade-{data}", caption, figure)


def _curves(group: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Return the distinct entries that have both numbers, by the option that is varied along a curve."""
    curves: dict[str, list[Entry]] = {}
    for entry in distinct(group):
        option = entry.contender.variant.partition(" = ")[0]
        if math.isfinite(entry.mean(NOVELTY, "val") + entry.mean("decoded_ratio", "val")):
            curves.setdefault(option or entry.contender.sampler, []).append(entry)
    return curves


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
