"""What samples scored, over seeds: leaderboards of models and samplers as tables, bars and a sentence."""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from experiments import tables
from experiments.tables import ONE_SEED, SHARED, Cell, Markdown, Scores, mean_and_sd, shared_places
from geovae.evaluation import LEAST_NOVELTY, better, is_biased, is_weak

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from experiments.judge import Result


RATIO = "nn_pixels_ratio"
NOVELTY = "code_novelty"
COPIES = "copies"  # the mark of a sampler that stays near its training codes
ARROWS = {"lower": " ↓", "higher": " ↑", "": ""}
BESIDE = {  # what stands beside each Frechet distance, on test images
    "density": "density",
    "coverage": "coverage",
    "class shares": "class_share_distance",
    "PRD F8": "prd_f8",
    "PRD F1/8": "prd_f1_8",
    "code novelty": NOVELTY,
    "nearest train": RATIO,
}
MEANINGS = {
    "kid": "**KID**: a distance of the same features without bias at small n: read it beside the former.",
    "decoded_ratio": (
        "**x decoded**: the Frechet distance over that of decoded codes of other held-out images, at one n. A perfect "
        "sampler of the latent space has 1: what exceeds it is the sampler's fault, the rest the decoder's."
    ),
    "density": (
        "**Density, coverage**: real neighbourhoods around a sample, over their expected number; part of the real "
        "images with a sample nearby."
    ),
    "class_share_distance": (
        "**Class shares**: part of the samples that would have to change class to match the shares of real images."
    ),
    "prd_f8": "**PRD F8, F1/8**: recall-like and precision-like, from 0 to 1.",
    NOVELTY: (
        "**Code novelty**: median distance of the latents to their nearest training code over that of held-out codes; "
        f"1 is as new as real data. Below {LEAST_NOVELTY} on validation images a sampler *{COPIES}*, and stands behind "
        "all that do not."
    ),
    RATIO: (
        "**Nearest train**: the same of images, in pixels. Towards 0 the samples are copies, above 1 they lie off "
        "the data."
    ),
}
UNDERTRAINED = " †"  # beside the name of a model whose training was too short
RUNS = "runs by seed"  # the last column, where runs are known
Part = Literal["val", "test", "diagnostics"]
Numbers = Mapping[str, float]


class Contender(NamedTuple):
    """What drew the images: a model, a sampler, and between them what was changed in the options, or ""."""

    model: str
    variant: str
    sampler: str

    def __str__(self) -> str:
        """Return its name in tables and figures."""
        return ", ".join(filter(None, (" / ".join(filter(None, (self.model, self.sampler))), self.variant)))


@dataclass(frozen=True)
class Entry:
    """A contender's numbers on one data set: scores on validation and test images and diagnostics, by seed and name.

    `headline` names the score that ranks, lower is better. `repeats` marks a second name of another entry: a
    value on the axis of an option, which does not compete. `runs` are links to the runs that the numbers come from.
    `undertrained`: in at least one of them the validation loss was still falling at the last epoch.
    """

    data: str
    contender: Contender
    headline: str
    val: dict[str | int, Numbers]
    test: dict[str | int, Numbers]
    diagnostics: dict[str | int, Numbers] = field(default_factory=dict)
    repeats: bool = False
    runs: list[Markdown] = field(default_factory=list)
    undertrained: bool = False

    @property
    def mark(self) -> str:
        """What stands behind the model's name in tables."""
        return UNDERTRAINED if self.undertrained else ""

    @property
    def copies(self) -> bool:
        """Whether the latents stay nearer to the training codes than held-out codes do, by the mean over seeds."""
        return self.mean(NOVELTY, "val") < LEAST_NOVELTY

    @property
    def biased(self) -> bool:
        """Whether a Frechet distance is from fewer samples or real images than there are features."""
        return any(is_biased(scores) for scores in (*self.val.values(), *self.test.values()))

    def values(self, key: str, part: Part = "test") -> list[float]:
        """Return the number of each seed, without those that are missing or not finite."""
        numbers = (scores.get(key, math.nan) for scores in getattr(self, part).values())
        return [value for value in numbers if math.isfinite(value)]

    def mean(self, key: str, part: Part = "test") -> float:
        """Return the mean over seeds, NaN without any."""
        values = self.values(key, part)
        return statistics.fmean(values) if values else math.nan


Column = Callable[[Entry], Cell]


def by_validation(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries, the best mean on validation images first, then those that copy; those without one last."""

    def key(entry: Entry) -> tuple[bool, str, bool, float]:
        mean = entry.mean(entry.headline, "val")
        return math.isnan(mean), entry.headline, entry.copies, mean

    return sorted(entries, key=key)


def places(entries: Sequence[Entry]) -> list[str]:
    """Return the place of each of the ordered entries: "1", "2=", "2=", "4"."""
    return shared_places(entries, _scores, lambda entry: (entry.headline, entry.copies))


def _scores(entry: Entry) -> Scores:
    numbers = {seed: scores.get(entry.headline, math.nan) for seed, scores in entry.val.items()}
    return {seed: value for seed, value in numbers.items() if math.isfinite(value)}


def rank_results(results: "Mapping[str, Result]", run_links: Mapping[str, Markdown] | None = None) -> list[Entry]:
    """Return an entry for each run and sampler, best validation score first."""
    links = run_links or {}
    entries = [
        Entry(
            "",
            Contender(name, "", sampler),
            result.headline,
            {0: scores},
            {0: result.test_scores.get(sampler, {})},
            runs=[links[name]] if name in links else [],
            undertrained=result.undertrained,
        )
        for name, result in results.items()
        for sampler, scores in result.val_scores.items()
    ]
    return by_validation(entries)


def scores_by_sampler(metrics: Numbers, kind: Literal["score", "val_score"]) -> dict[str, dict[str, float]]:
    """Return the scores of each sampler among the metrics of a run, on test images or on validation images."""
    scores: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        if key.startswith(f"{kind}/") and key.count("/") == 2:
            _, sampler, score = key.split("/")
            scores.setdefault(sampler, {})[score] = value
    return scores


def distinct(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries without those that repeat another under a second name."""
    return [entry for entry in entries if not entry.repeats]


def score_table(entries: Sequence[Entry], lead: Mapping[str, Column] | None = None) -> str:
    """Return the leaderboard of distinct entries as a Markdown table, best validation score first.

    Args:
        entries: of one data set.
        lead: the columns before the scores, by their heads; by default the contender's name.
    """
    ordered = by_validation(distinct(entries))
    columns = dict(lead or {"model and sampler": lambda entry: f"{entry.contender}{entry.mark}"}) | score_columns(
        ordered
    )
    if any(entry.runs for entry in ordered):
        columns[RUNS] = lambda entry: Markdown(" ".join(entry.runs))
    return tables.leaderboard(ordered, columns, places(ordered))


def reference(entries: Sequence[Entry]) -> str:
    """Return the sentence below a table: the samples scored, and what real images score against real images."""
    entry = entries[0]
    head, seeds = entry.headline, len(entry.test)
    decoded = entry.mean(f"decoded_{head}")
    at_decoded = f" (at n = {entry.mean('decoded_n'):.0f})"
    marked = any(entry.undertrained for entry in entries)
    return (
        f"n = {entry.mean('n'):.0f}; real against real {tables.format_number(entry.mean(f'real_{head}'))} "
        f"(at n = {entry.mean('real_n'):.0f}); "
        + f"decoded held-out codes {tables.format_number(decoded)}{at_decoded}; " * math.isfinite(decoded)
        + f"{seeds} seed{'s' * (seeds > 1)}."
        + " † undertrained: its validation loss was still falling when its epochs were used up." * marked
    )


def as_markdown(board: Sequence[Entry]) -> str:
    """Return the leaderboard of a comparison, one data set and one seed a run, with what its columns mean."""
    lead: dict[str, Column] = {"run": lambda e: e.contender.model + e.mark, "sampler": lambda e: e.contender.sampler}
    return f"{one_seed(board)}{score_table(board, lead)}\n{reference(board)}\n\n{how_to_read(board)}"


def one_seed(entries: Sequence[Entry]) -> str:
    """Return the first line of a table whose rows have one seed each; nothing for other tables."""
    return f"{ONE_SEED}\n\n" if all(len(entry.val) < 2 for entry in entries) else ""


def as_json(board: Sequence[Entry]) -> str:
    """Return the leaderboard of a comparison with all test scores, as `mlflow.load_table` and the UI read tables."""
    keys = list(dict.fromkeys(key for entry in board for scores in entry.test.values() for key in scores))
    head = ["place", "run", "sampler", f"val_{board[0].headline}", *(f"test_{key}" for key in keys)]
    rows = [
        [place, entry.contender.model, entry.contender.sampler, entry.val[0][entry.headline]]
        + [entry.test[0].get(key) for key in keys]
        for place, entry in zip(places(board), board, strict=True)
    ]
    return json.dumps({"columns": head, "data": rows})


def winner_sentence(board: Sequence[Entry]) -> str:
    """Return what won, and by how much: against the next model, or the next sampler where there is one model."""
    best = board[0]
    scores = [f"{entry.mean(entry.headline, 'val'):.4g}" for entry in board]
    text = f"{best.contender.model} with the {best.contender.sampler} sampler wins: {best.headline} {scores[0]}"
    text = f"With one seed, {text}" if one_seed(board) else text
    text += " (it copies: no sampler does not)" * best.copies
    for score, entry in zip(scores, board, strict=True):
        model, _, sampler = entry.contender
        if model != best.contender.model:
            return f"{text} against {score} of the next model, {model} with the {sampler} sampler."
    if len(board) > 1:
        return f"{text} against {scores[1]} of the next sampler, {board[1].contender.sampler}."
    return f"{text}; nothing else was drawn."


def as_figure(board: Sequence[Entry]) -> "Figure":
    """Return the leaderboard as a bar chart."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.5 + 0.4 * len(board)), layout="constrained")
    ax = figure.add_subplot()
    ordered = board[::-1]  # bars are drawn from below
    ax.barh([str(entry.contender) for entry in ordered], [entry.mean(entry.headline, "val") for entry in ordered])
    ax.set_xlabel(f"{board[0].headline} against the validation images (lower is better)")
    return figure


def score_columns(entries: Sequence[Entry]) -> dict[str, Column]:
    """Return the columns of scores that any entry has; beside each Frechet distance what it cannot say alone."""
    heads = [head for head in dict.fromkeys(entry.headline for entry in entries) if head]
    wanted: dict[str, tuple[str, Part]] = {}
    for head in heads:
        kid = "KID" if len(heads) == 1 else kid_of(head)
        marked = head + marks(head, entries)
        wanted |= {f"{marked} val": (head, "val"), f"{marked} test": (head, "test")}
        wanted |= {"x decoded": ("decoded_ratio", "test"), f"{kid} test": (kid_of(head), "test")}
    wanted |= {title: (key, "test") for title, key in BESIDE.items()}
    return {
        title + ARROWS[better(f"score/{key}")]: partial(_score_cell, key, part, _best(key, part, entries))
        for title, (key, part) in wanted.items()
        if any(entry.values(key, part) for entry in entries)
    }


def marks(head: str, entries: Sequence[Entry]) -> str:
    """Return the marks of a Frechet distance, for the head of its column."""
    return marked(head, biased=any(entry.biased for entry in entries if entry.headline == head))


def marked(head: str, *, biased: bool) -> str:
    """Return what a reader must know of a Frechet distance: weak features, or too few samples for their number."""
    found = ["weak"] * is_weak(head) + ["biased"] * biased
    return f" ({', '.join(found)})" if found else ""


def _best(key: str, part: Part, entries: Sequence[Entry]) -> float:
    """Return the best mean of a score without copies, NaN where no side is better or nobody else has it."""
    means = [entry.mean(key, part) for entry in entries if entry.values(key, part) and not entry.copies]
    side = better(f"score/{key}")
    return {"lower": min, "higher": max}[side](means) if side and len(means) > 1 else math.nan


def _score_cell(key: str, part: Part, best: float, entry: Entry) -> Cell:
    text = mean_and_sd(entry.values(key, part))
    if key == NOVELTY and entry.copies:
        return f"{text} {COPIES}"
    return Markdown(f"**{text}**") if entry.mean(key, part) == best and not entry.copies else text


def kid_of(head: str) -> str:
    """Return the name of the kernel distance on the features of a Frechet distance."""
    return head.replace("fd_", "kid_").replace("fid", "kid")


def how_to_read(entries: Sequence[Entry]) -> str:
    """Return what the columns of `score_table` mean, as a list."""
    heads = [head for head in dict.fromkeys(entry.headline for entry in entries) if head]
    scored = {key for entry in entries for scores in entry.test.values() for key in scores}
    lines = [
        "Numbers are means over seeds ± their standard deviation; the best of a column is bold, copies aside, and an "
        f"arrow shows the better side. Validation images (*val*) choose and rank, test images report. {SHARED}"
    ]
    for head in heads:
        features = "Inception" if head == "fid" else head.removeprefix("fd_")
        note = "" if head == "fid" else " It is not FID, whose features are Inception's, and compares with no FID."
        weak = " *Weak*: such features see noise and blur, but cannot rank samplers." if is_weak(head) else ""
        biased = " *Biased*: n is below the number of features; read KID." if "biased" in marks(head, entries) else ""
        lines.append(
            f"**{head}**: Frechet distance between the {features} features of samples and of real images."
            f"{note}{weak}{biased}"
        )
    named = scored | ({"kid"} if any(kid_of(head) in scored for head in heads) else set())
    lines += [meaning for key, meaning in MEANINGS.items() if key in named]
    lines.append("*Real against real*: the score of real images at this n, the best that samples can reach.")
    return "".join(f"* {line}\n" for line in lines)
