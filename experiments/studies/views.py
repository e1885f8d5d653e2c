"""The middle of each report: the tables and pictures of one kind of study, as Markdown and named figures."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from experiments.augmentation import as_figure, as_markdown
from experiments.figure1 import figure1
from experiments.judge import decode_images, load_data_of
from experiments.studies.execute import Outcome
from experiments.studies.oasis import classified
from experiments.studies.page import table
from experiments.studies.paper import N_SAMPLES, NEAREST, TABLE1, PaperRow
from experiments.studies.pictures import RATIO, draw, option_panels, sample_rows, size_curves, trade_off
from experiments.studies.plan import REPORTS, TRAINED, Study
from experiments.studies.statistics import Line, Ranking, Way, distinct, rank, spread
from geovae.data import Splits
from geovae.evaluation.evaluate import evaluate
from geovae.evaluation.report import Report
from geovae.figures.evaluation import neighbour_figure
from geovae.images import to_float
from geovae.samplers import RiemannianSampler
from geovae.saved_model import SavedModel, load_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure of a report, the name of its file and what it shows."""

    name: str
    caption: str
    figure: "Figure"


@dataclass(frozen=True)
class Numbers:
    """A table that goes into a CSV file beside the report: the name of the file, the heads of its columns, its rows."""

    name: str
    head: list[str]
    rows: list[list[Any]]


Part = str | Picture | Numbers
QUALITY = {
    "codes above floor": "codes_above_floor",
    "samples above floor": "samples_above_floor",
    "acceptance": "acceptance",
    "moved": "distance_to_start_ratio",
    "nearest code": "nearest_code_ratio",
    "R-hat": "r_hat",
    "seconds": "seconds",
}


DIAGNOSTICS = """
*Above floor*: part of the training codes, and of the samples, where the metric is not flat. *Moved*: how far chains
got, and *nearest code*: how near samples lie to training codes, both over the distance between training codes. R-hat is
1 for chains that forgot their start, which short chains around many modes are not meant to do."""


def score_table(lines: Sequence[Line]) -> str:
    """Return the scores of one data set as a table, best validation score first, each way once."""
    lines = distinct(lines)
    head = lines[0].headline
    columns = {f"{head} val": (head, "val"), f"{head} test": (head, "test")}
    optional = {
        "KID test": kid_of(head),
        "PRD F8": "prd_f8",
        "PRD F1/8": "prd_f1_8",
    }
    columns |= {k: (key, "test") for k, key in optional.items() if any(line.values(key) for line in lines)}
    columns["nearest train"] = (RATIO, "test")
    order = sorted(lines, key=lambda line: line.mean(head, "val"))
    rows = [[str(line.way), *(spread(line.values(key, kind)) for key, kind in columns.values())] for line in order]
    return table(["way", *columns], rows) + "\n" + _perfect(lines)


def kid_of(head: str) -> str:
    """Return the name of the kernel distance of the same features."""
    return head.replace("fd_", "kid_").replace("fid", "kid")


def _perfect(lines: Sequence[Line]) -> str:
    """Return the sentence on the real-versus-real row and n."""
    head = lines[0].headline
    first = next(iter(lines[0].test.values()))
    seeds = len(lines[0].test)
    real = [line.mean(f"real_{head}") for line in lines]
    return (
        f"n = {first.get('n', math.nan):.0f}; real against real {next(iter(real), math.nan):.3f} "
        f"(at n = {first.get('real_n', math.nan):.0f}); {seeds} seed{'s' * (seeds > 1)}."
    )


def by_data(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """Return the lines of each data set."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.data, []).append(line)
    return groups


def rank_table(ranking: Ranking) -> str:
    """Return a ranking as a section, or nothing when there is nobody to rank or a single block."""
    if len(ranking.standings) < 2 or ranking.blocks < 2:
        return ""
    rows = [
        [
            str(s.way),
            f"{s.rank:.2f}",
            f"{s.ratio:.3f}",
            "–" if i == 0 else f"{s.wins} of {ranking.blocks}",
            "–" if math.isnan(s.p) else f"{s.p:.2g}",
        ]
        for i, s in enumerate(ranking.standings)
    ]
    friedman = "" if math.isnan(ranking.friedman) else f" All alike (Friedman): p = {ranking.friedman:.2g}."
    return (
        f"## Ranks over {ranking.blocks} blocks\n\n"
        + table(["way", "mean rank", "score over the first's", "beats the first in", "p"], rows)
        + "\nBy the score on test images; *score over the first's* is a geometric mean over blocks. p: paired t test "
        f"against the first, adjusted after Holm.{friedman}"
    )


def plain(study: Study, lines: list[Line], outcomes: list[Outcome]) -> Iterator[Part]:
    """Tables of scores and the ranks."""
    for data, group in by_data(lines).items():
        yield f"## {data}\n\n{score_table(group)}"
    yield rank_table(rank(lines))


def table1(study: Study, lines: list[Line], outcomes: list[Outcome]) -> Iterator[Part]:
    """The paper's rows in the paper's order, its numbers beside ours."""
    for data, group in by_data(lines).items():
        column = NEAREST.get(data, data)
        yield f"## {data}\n\n{_paper_table(group, data, column)}"
        extra = [line for line in group if not any(_is(line.way, row) for row in TABLE1)]
        if extra:
            yield "Beside the paper's rows:\n\n" + score_table(extra)
    yield rank_table(rank([line for line in lines if any(_is(line.way, row) for row in TABLE1)]))


def _is(way: Way, row: PaperRow) -> bool:
    return (way.model, way.variant, way.sampler) == (row.model, TRAINED, row.sampler)


def _paper_table(group: list[Line], data: str, column: str) -> str:
    head = group[0].headline
    found = [(row, line) for row in TABLE1 for line in group if _is(line.way, row)]
    n = min(line.mean("n") for _, line in found)
    comparable = head == "fid" and data == column
    ours = _places([line.mean(head) for _, line in found])
    theirs = _places([row.entries[column].fid if column in row.entries else math.nan for row, _ in found])
    rows = []
    for i, (row, line) in enumerate(found):
        paper = row.entries.get(column)
        pair = f"{line.mean('prd_f8'):.2f} / {line.mean('prd_f1_8'):.2f}" if line.values("prd_f8") else "–"
        cells = [spread(line.values(head, "val")), spread(line.values(head)), spread(line.values(kid_of(head)))]
        cells += [pair, spread(line.values(RATIO))]
        cells += [f"{paper.fid:.2f}", f"{paper.f8:.2f} / {paper.f1_8:.2f}"] if paper else ["–", "–"]
        if comparable:
            cells.append(f"{line.mean(head) - row.entries[column].fid:+.2f}")
        rows.append([row.label, *cells, str(ours[i]), str(theirs[i]) if paper else "–"])
    titles = ["row", f"{head} val", f"{head} test", "KID test", "F8 / F1/8", "nearest train"]
    titles += [f"paper's FID ({column})", "paper's F8 / F1/8", *(["difference"] if comparable else [])]
    titles += ["place", "paper's place"]
    return table(titles, rows) + "\n" + _perfect(group) + " " + _comparability(head, data, column, n, ours, theirs)


def _places(values: list[float]) -> list[int]:
    return [1 + sum(other < value for other in values) for value in values]


def _comparability(head: str, data: str, column: str, n: float, ours: list[int], theirs: list[int]) -> str:
    """Return what may be compared with the paper, and how well the orders agree."""
    from scipy.stats import spearmanr

    text = ""
    if head != "fid":
        text = f"These are distances of {head.removeprefix('fd_')} features, **not FID**: no difference is formed. "
    elif data == column and n < N_SAMPLES:
        text = f"The paper draws {N_SAMPLES:,} samples; at n = {n:.0f} the FID is biased upwards. "
    if data != column:
        text += f"The paper has no {data}; its column {column} comes nearest, and only the order may be compared. "
    if len(set(theirs)) > 2 and len(set(ours)) > 2:
        test = spearmanr(ours, theirs)
        text += f"Agreement of the orders (Spearman): {test.statistic:.2f}, p = {test.pvalue:.2g}."
    return text


def sizes(study: Study, lines: list[Line], outcomes: list[Outcome]) -> Iterator[Part]:
    """Fig. 4: scores against the number of training images; the data are named `<family> <size>`."""
    counts = {cell.data: int(cell.configs[TRAINED]["data"]["train_size"]) for cell in study.cells}
    caption = (
        "Score and nearest train against the number of training images; bars are one standard deviation over seeds"
    )
    yield Picture("figure4", caption, size_curves(lines, counts))
    yield from plain(study, lines, outcomes)


def ablation(study: Study, lines: list[Line], outcomes: list[Outcome]) -> Iterator[Part]:
    """One panel for each option that the variants change; variants are named `<option> = <value>`."""
    for data, group in by_data(lines).items():
        yield f"## {data}"
        yield Picture(
            f"ablation-{data}",
            f"{data}: validation score and nearest train, one option at a time",
            option_panels(group),
        )
        yield Picture(
            f"trade-{data}", f"{data}: the score against the distance from the training set", trade_off(group)
        )
        default = [line.way.variant for line in group if line.repeats]
        yield (
            f"The default of these models ({group[0].way.model} / riemannian) is {', '.join(default)}."
            if default
            else ""
        )
        yield score_table(group)
    yield rank_table(rank(lines))


def quality(study: Study, lines: list[Line], outcomes: list[Outcome]) -> Iterator[Part]:
    """Scores, memorisation and the samplers' own diagnostics on the same codes, with samples of each."""
    for data, group in by_data(lines).items():
        yield f"## {data}\n\n{score_table(group)}"
        yield Picture(
            f"trade-{data}", f"{data}: the score against the distance from the training set", trade_off(group)
        )
        rows = [
            [str(line.way), *(spread(line.values(key, "diagnostics")) for key in QUALITY.values())]
            for line in distinct(group)
        ]
        yield "What the samplers say of themselves:\n\n" + table(["way", *QUALITY], rows) + DIAGNOSTICS
        first = [o for o in outcomes if o.cell.data == data and o.cell.seed == study.seeds[0]]
        yield Picture(f"samples-{data}", f"{data}: samples of each way, seed {study.seeds[0]}", sample_rows(first))
    yield rank_table(rank(lines))


def neighbours(study: Study, lines: list[Line], outcomes: list[Outcome]) -> Iterator[Part]:
    """Fig. 3: each sample with its nearest training image and nearest reconstruction of a test image."""
    for data in study.data:
        numbers: dict[str, dict[str, list[float]]] = {}
        pictures = []
        for outcome in (o for o in outcomes if o.cell.data == data):
            saved = load_model(outcome.model_file)
            splits = load_data_of(saved)
            rebuilt = _rebuilt(saved, splits)
            for sampler in outcome.samplers:
                fake = draw(saved, outcome, sampler, len(rebuilt))
                found = _against_reconstructions(outcome, splits, fake, rebuilt)
                for key, value in found.values.items():
                    numbers.setdefault(sampler, {}).setdefault(key, []).append(value)
                if outcome.cell.seed == study.seeds[0]:
                    pictures.append(
                        _neighbour_picture(data, sampler, fake, splits.train.images, rebuilt, found.nearest)
                    )
        yield f"## {data}\n\n" + _neighbour_table(numbers, outcomes[0].headline)
        yield from pictures
    yield rank_table(rank(lines))


@torch.no_grad()
def _rebuilt(saved: SavedModel, splits: Splits) -> torch.Tensor:
    """Return the reconstructions of the test images, or of the validation images where there are none."""
    real = splits.test or splits.val
    return decode_images(saved.model, torch.cat([saved.model.encode(to_float(x)).mu for x in real.images.split(500)]))


def _against_reconstructions(outcome: Outcome, splits: Splits, fake: torch.Tensor, rebuilt: torch.Tensor) -> Report:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the run itself has said so
        return evaluate(
            real=(splits.test or splits.val).images,
            fake=fake,
            train=splits.train.images,
            reconstructions=rebuilt,
            other_real=splits.val.images,
            extractor=outcome.cell.configs[outcome.variant]["extractor"],
            scores=["frechet"],
        )


def _neighbour_picture(
    data: str, sampler: str, fake: torch.Tensor, train: torch.Tensor, rebuilt: torch.Tensor, found: dict[str, list[int]]
) -> Picture:
    rows = {
        "sample": fake[found["fake"][:12]],
        "nearest training image": train[found["train"][:12]],
        "nearest reconstruction": rebuilt[found["reconstructions"][:12]],
    }
    caption = f"{data}, {sampler}: samples, their nearest training image, their nearest reconstruction of a test image"
    return Picture(f"figure3-{data}-{sampler}", caption, neighbour_figure(rows))


def _neighbour_table(numbers: dict[str, dict[str, list[float]]], head: str) -> str:
    columns = {
        f"{head} to test images": head,
        f"{head} to reconstructions": f"reconstructions_{head}",
        "nearest train": RATIO,
        "nearer than held-out (1/2 is new)": "nn_pixels_auc",
        "closer than 95 % of held-out": "nn_pixels_close",
    }
    rows = [[name, *(spread(found.get(key, [])) for key in columns.values())] for name, found in numbers.items()]
    return table(["sampler", *columns], rows)


def toy(study: Study, lines: list[Line], outcomes: list[Outcome]) -> Iterator[Part]:
    """Fig. 1, for the first seed of each data set."""
    for outcome in outcomes:
        if outcome.cell.seed != study.seeds[0] or outcome.variant != TRAINED:
            continue
        saved = load_model(outcome.model_file)
        metric = RiemannianSampler(**outcome.cell.configs[TRAINED]["sampler"]["riemannian"]).fit(saved.codes).metric
        figure = figure1(saved.model, saved.codes.mu, load_data_of(saved).train.labels, metric)
        caption = (
            "Volume element with codes, affine (straight) and geometric curves (Eq. 12), Riemannian distances from one "
            "code, and what both kinds of curves decode to"
        )
        yield Picture(f"figure1-{outcome.cell.data}", caption, figure)
    yield from plain(study, lines, outcomes)


def brains(study: Study, lines: list[Line], outcomes: list[Outcome]) -> Iterator[Part]:
    """App. C.3: what is drawn of brains, and what it is worth to a classifier of CDR with few subjects."""
    for data, group in by_data(lines).items():
        first = [o for o in outcomes if o.cell.data == data and o.cell.seed == study.seeds[0]]
        yield f"## {data}: the samples\n\n{score_table(group)}"
        yield Picture(f"samples-{data}", f"{data}: samples, seed {study.seeds[0]}", sample_rows(first))
        trials, task, truth = classified(first[0], study.source["classifier"])
        yield f"## {data}: CDR 0 against CDR above 0\n\n{as_markdown(trials, task, truth)}"
        caption = f"{data}: the same over the number of training subjects; bars are one standard deviation over folds"
        yield Picture(f"classifiers-{data}", caption, as_figure(trials))
        said = [
            [t.size, t.method, t.fold, task.ids[row], int(task.labels[row]), f"{p:.6f}"]
            for t in trials
            for row, p in zip(t.rows, t.probability, strict=True)
        ]
        yield Numbers(f"predictions-{data}", ["size", "method", "fold", "id", "label", "probability"], said)
    yield rank_table(rank(lines))


Write = Callable[[Study, list[Line], list[Outcome]], Iterator[Part]]
WRITERS: tuple[Write, ...] = (plain, table1, toy, neighbours, sizes, ablation, quality, brains)
PARTS: dict[str, Write] = dict(zip(REPORTS, WRITERS, strict=True))
