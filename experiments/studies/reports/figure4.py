"""Fig. 4: scores against the number of training images; the data are named `<family> <size>`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from experiments.leaderboard import NOVELTY, Entry
from experiments.page import Part, Picture
from experiments.studies.cells import TRAINED, Study
from experiments.studies.execute import Outcome
from experiments.studies.reports.scores import scores
from experiments.studies.score_figures import draw_means, shade_copies, use_log_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTION = "Score and code novelty against the number of training images; bars are one standard deviation over seeds"


def figure4(study: Study, entries: list[Entry], outcomes: list[Outcome]) -> Iterator[Part]:
    """Yield the curves and the scores."""
    sizes = {cell.data: int(cell.configs[TRAINED]["data"]["train_size"]) for cell in study.cells}
    yield Picture("figure4", CAPTION, size_curves(entries, sizes))
    yield from scores(study, entries, outcomes)


def size_curves(entries: Sequence[Entry], sizes: Mapping[str, int]) -> "Figure":
    """Return scores and code novelty against the number of training images, a column for each family of data.

    `sizes` are the numbers of training images by the name of the data.
    """
    from matplotlib.figure import Figure

    families: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: sizes[entry.data]):
        families.setdefault(entry.data.split()[0], []).append(entry)
    figure = Figure(figsize=(6 * len(families), 6.5), layout="constrained")
    axes = figure.subplots(2, len(families), squeeze=False, sharex="col")
    for (score, novelty), (family, group) in zip(axes.T, families.items(), strict=True):
        for contender in dict.fromkeys(entry.contender for entry in group):
            curve = [entry for entry in group if entry.contender == contender]
            for ax, key in ((score, group[0].headline), (novelty, NOVELTY)):
                draw_means(ax, [sizes[entry.data] for entry in curve], curve, key, "test", label=str(contender))
        score.set(title=family, xscale="log", ylabel=f"{group[0].headline}, test images")
        use_log_scale(score)
        score.legend(fontsize="small")
        novelty.set(xlabel="training images", ylabel="code novelty (1 is as new as data)")
        shade_copies(novelty)
        novelty.set_xticks(sorted({sizes[entry.data] for entry in group}))
        novelty.xaxis.set_major_formatter("{x:.0f}")
        novelty.minorticks_off()
    return figure
