"""Table 1 (Chadebec & Allassonnière 2022): the paper's rows in the paper's order, its numbers beside ours.

The paper gives the FID against the test images (lower is better), and the pair F8, F1/8 of PRD (higher is better), of
10,000 samples.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from experiments.leaderboard import (
    COPIES,
    NOVELTY,
    RATIO,
    RUNS,
    Contender,
    Entry,
    kid_of,
    marks,
    reference,
    score_table,
)
from experiments.page import Part
from experiments.studies.cells import TRAINED, Study
from experiments.studies.execute import Outcome
from experiments.studies.ranking import by_data, rank_table
from experiments.tables import MISSING, Cell, Markdown, as_markdown, mean_and_sd


class Published(NamedTuple):
    """One entry of Table 1."""

    fid: float
    f8: float
    f1_8: float


class PaperRow(NamedTuple):
    """One row of Table 1: what the paper calls it, our model and sampler, and its entries by data set."""

    label: str
    model: str
    sampler: str
    entries: dict[str, Published]


_TABLE1 = """
model sampler    | row             | mnist           | svhn             | cifar            | celeba
ae prior         | AE, N(0, I)     | 46.41 0.86 0.77 | 119.65 0.54 0.37 | 196.50 0.05 0.17 | 64.64 0.29 0.42
wae prior        | WAE             | 20.71 0.93 0.88 | 49.07 0.80 0.85  | 132.99 0.24 0.52 | 54.56 0.57 0.55
vae prior        | VAE, N(0, I)    | 40.70 0.83 0.75 | 83.55 0.69 0.55  | 162.58 0.10 0.32 | 64.13 0.27 0.39
vamp vamp        | VAMP            | 34.02 0.83 0.88 | 91.98 0.55 0.63  | 198.14 0.05 0.11 | 73.87 0.09 0.10
hvae prior       | HVAE            | 15.54 0.97 0.95 | 98.05 0.64 0.68  | 201.70 0.13 0.21 | 52.00 0.38 0.58
rhvae prior      | RHVAE           | 36.51 0.73 0.28 | 121.69 0.55 0.41 | 167.41 0.12 0.22 | 55.12 0.45 0.56
ae mixture       | AE, GMM         | 9.60 0.95 0.90  | 54.21 0.82 0.83  | 130.28 0.35 0.58 | 56.07 0.32 0.48
rae_gp mixture   | RAE-GP          | 9.44 0.97 0.98  | 61.43 0.79 0.78  | 120.32 0.34 0.58 | 59.41 0.28 0.49
rae_l2 mixture   | RAE-L2          | 9.89 0.97 0.98  | 58.32 0.82 0.79  | 123.25 0.33 0.54 | 54.45 0.35 0.55
rae_sn mixture   | RAE-SN          | 11.22 0.97 0.98 | 95.64 0.53 0.63  | 114.59 0.32 0.53 | 55.04 0.36 0.56
rae mixture      | RAE             | 11.23 0.98 0.98 | 66.20 0.76 0.80  | 118.25 0.35 0.57 | 53.29 0.36 0.58
vae mixture      | VAE, GMM        | 13.13 0.95 0.92 | 52.32 0.82 0.85  | 138.25 0.29 0.53 | 55.50 0.37 0.49
vae riemannian   | VAE, Riemannian | 8.53 0.98 0.97  | 46.99 0.84 0.85  | 93.53 0.71 0.68  | 48.71 0.44 0.62
"""


def _read_table(text: str) -> list[PaperRow]:
    head, *lines = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    rows = []
    for model_and_sampler, label, *cells in lines:
        entries = {name: Published(*map(float, cell.split())) for name, cell in zip(head[2:], cells, strict=True)}
        model, sampler = model_and_sampler.split()
        rows.append(PaperRow(label, model, sampler, entries))
    return rows


TABLE1 = _read_table(_TABLE1)
# the column of the paper nearest to a data set that the paper lacks: ranks may be compared, numbers never
NEAREST = {"digits": "mnist", "mnist_5k": "mnist", "fashion_mnist": "mnist", "kmnist": "mnist", "patches": "cifar"}
N_SAMPLES = 10_000


def table1(study: Study, entries: list[Entry], outcomes: list[Outcome]) -> Iterator[Part]:
    """Yield a table for each data set, what the paper has not, and the ranks of the paper's rows."""
    labelled = [entry for entry in entries if any(is_row(entry.contender, row) for row in TABLE1)]
    for data, group in by_data(entries).items():
        yield f"## {data}\n\n{_table_beside_paper([e for e in labelled if e.data == data], data)}"
        extra = [entry for entry in group if entry not in labelled]
        if extra:
            yield "Beside the paper's rows:\n\n" + score_table(extra)
    yield rank_table(labelled)


def is_row(contender: Contender, row: PaperRow) -> bool:
    """Return whether a row of the paper is about this model and sampler."""
    return contender == (row.model, TRAINED, row.sampler)


def _table_beside_paper(group: list[Entry], data: str) -> str:
    """Return the table of one data set; a difference is formed only of FID on the paper's own data."""
    family = data.split()[0]  # the name may go on with a number of images
    column = NEAREST.get(family, family)
    head = group[0].headline
    pairs = [(row, entry) for row in TABLE1 for entry in group if is_row(entry.contender, row)]
    comparable = head == "fid" and data == column
    ours = _places([entry.mean(head) for _, entry in pairs])
    theirs = _places([row.entries[column].fid if column in row.entries else math.nan for row, _ in pairs])
    rows: list[list[Cell]] = []
    for (row, entry), our_place, their_place in zip(pairs, ours, theirs, strict=True):
        paper = row.entries.get(column)
        cells = [mean_and_sd(entry.values(head, "val")), mean_and_sd(entry.values(head))]
        cells += [mean_and_sd(entry.values(kid_of(head))), _pair(entry.mean("prd_f8"), entry.mean("prd_f1_8"))]
        cells = [*cells[:2], mean_and_sd(entry.values("decoded_ratio")), *cells[2:]]
        cells += [mean_and_sd(entry.values(key)) for key in ("density", "coverage", "class_share_distance")]
        cells += [mean_and_sd(entry.values(NOVELTY)) + f" {COPIES}" * entry.copies, mean_and_sd(entry.values(RATIO))]
        cells += [f"{paper.fid:.2f}", _pair(paper.f8, paper.f1_8)] if paper else [MISSING, MISSING]
        if comparable:
            cells.append(f"{entry.mean(head) - row.entries[column].fid:+.2f}")
        rows.append(
            [row.label + entry.mark, *cells, our_place, their_place if paper else None, Markdown(" ".join(entry.runs))]
        )
    named = head + marks(head, group)
    titles = ["row", f"{named} val", f"{named} test", "x decoded", "KID test", "F8 / F1/8", "density", "coverage"]
    titles += ["class shares", "code novelty", "nearest train"]
    titles += [f"paper's FID ({column})", "paper's F8 / F1/8", *(["difference"] if comparable else [])]
    titles += ["place", "paper's place", RUNS]
    n = min(entry.mean("n") for _, entry in pairs)
    notes = f"{reference(group)} {_compared(head, data, column, n)}{_agreement(ours, theirs)}"
    return f"{as_markdown(titles, rows)}\n{notes}"


def _pair(f8: float, f1_8: float) -> str:
    return MISSING if math.isnan(f8) else f"{f8:.2f} / {f1_8:.2f}"


def _places(values: list[float]) -> list[int]:
    return [1 + sum(other < value for other in values) for value in values]


def _compared(head: str, data: str, column: str, n: float) -> str:
    """Return what may be compared with the paper's numbers."""
    text = ""
    if head != "fid":
        text = f"These are distances of {head.removeprefix('fd_')} features, **not FID**: no difference is formed. "
    elif data == column and n < N_SAMPLES:
        text = f"The paper draws {N_SAMPLES:,} samples; at n = {n:.0f} the FID is biased upwards. "
    if data != column:
        text += f"The paper has no {data}; its column {column} comes nearest, and only the order may be compared. "
    return text


def _agreement(ours: list[int], theirs: list[int]) -> str:
    """Return how well the two orders agree, if both have at least three places."""
    from scipy.stats import spearmanr

    if len(set(theirs)) < 3 or len(set(ours)) < 3:
        return ""
    test = spearmanr(ours, theirs)
    return f"Agreement of the orders (Spearman): {test.statistic:.2f}, p = {test.pvalue:.2g}."
