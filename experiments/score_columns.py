"""The columns of scores in every leaderboard, and what they mean."""

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from experiments.tables import SHARED, Cell, Markdown, mean_and_sd
from geovae.evaluation import LEAST_NOVELTY, better, is_weak

if TYPE_CHECKING:
    from experiments.leaderboard import Column, Entry, Part

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


def score_columns(entries: "Sequence[Entry]") -> "dict[str, Column]":
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


def marks(head: str, entries: "Sequence[Entry]") -> str:
    """Return the marks of a Frechet distance, for the head of its column."""
    return marked(head, biased=any(entry.biased for entry in entries if entry.headline == head))


def marked(head: str, *, biased: bool) -> str:
    """Return what a reader must know of a Frechet distance: weak features, or too few samples for their number."""
    found = ["weak"] * is_weak(head) + ["biased"] * biased
    return f" ({', '.join(found)})" if found else ""


def _best(key: str, part: "Part", entries: "Sequence[Entry]") -> float:
    """Return the best mean of a score, NaN where no side is better or nobody else has it."""
    means = [entry.mean(key, part) for entry in entries if entry.values(key, part)]
    side = better(f"score/{key}")
    return {"lower": min, "higher": max}[side](means) if side and len(means) > 1 else math.nan


def _score_cell(key: str, part: "Part", best: float, entry: "Entry") -> Cell:
    text = mean_and_sd(entry.values(key, part))
    if key == NOVELTY and entry.copies:
        return f"{text} {COPIES}"
    return Markdown(f"**{text}**") if entry.mean(key, part) == best else text


def kid_of(head: str) -> str:
    """Return the name of the kernel distance on the features of a Frechet distance."""
    return head.replace("fd_", "kid_").replace("fid", "kid")


def how_to_read(entries: "Sequence[Entry]") -> str:
    """Return what the columns of `score_table` mean, as a list."""
    heads = [head for head in dict.fromkeys(entry.headline for entry in entries) if head]
    scored = {key for entry in entries for scores in entry.test.values() for key in scores}
    lines = [
        "Numbers are means over seeds ± their standard deviation; the best of a column is bold, and an arrow shows the "
        f"better side. Validation images (*val*) choose and rank, test images report. {SHARED}"
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
