"""The evidence for a model: its headline score over seeds, how it was measured, and its sampler's diagnostics."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geovae.evaluation import LEAST_NOVELTY

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

KEPT = ("scores", "spread", "n", "digest", "extractor_id")  # in one tag of a version
PROTOCOL = ("headline", "n", "digest", "extractor_id")  # scores compare only where these are equal


@dataclass(frozen=True)
class Evidence:
    """A configuration's headline scores by seed (on validation images, lower is better) and how they were measured.

    `problems` are reasons not to trust its runs, whatever their scores; `spread` is the standard error of one score,
    from halves of its images; `extractor_id` names the weights of the features.
    """

    headline: str
    n: str
    digest: str
    sampler: str
    model: str
    scores: dict[str, float]
    problems: list[str] = field(default_factory=list)
    spread: float = 0.0
    extractor_id: str = ""

    @property
    def mean(self) -> float:
        """The mean score over the seeds."""
        return statistics.fmean(self.scores.values())

    @property
    def error(self) -> float:
        """The standard error of the mean; with one seed the least that it can be, that of the score itself."""
        n = len(self.scores)
        return statistics.stdev(self.scores.values()) / math.sqrt(n) if n > 1 else self.spread

    def __str__(self) -> str:
        seeds = len(self.scores)
        about = f" over {seeds} seeds" if seeds > 1 else " in one seed"
        spread = f" ± {self.error:.2g}{about}" if seeds > 1 or self.error > 0 else ""
        return f"{self.headline} {self.mean:.4g}{spread}"

    def tags(self) -> dict[str, str]:
        """Return the evidence as tags of a model version: few for readers, and one for programs."""
        kept = {name: getattr(self, name) for name in KEPT}
        read = {"score": f"{self.mean:.6g}", "headline": self.headline, "model": self.model, "sampler": self.sampler}
        return read | {"evidence": json.dumps(kept)}

    @property
    def extractor(self) -> str:
        """The extractor of the features that the headline score compares."""
        return "inception" if self.headline == "fid" else self.headline.removeprefix("fd_")

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> "Evidence | None":
        """Return the evidence that `tags` wrote, None for a version that was registered without it."""
        if not {"headline", "evidence"} <= tags.keys():
            return None
        kept = {name: value for name, value in json.loads(tags["evidence"]).items() if name in KEPT}
        return cls(headline=tags["headline"], sampler=tags.get("sampler", ""), model=tags.get("model", ""), **kept)


def gather(client: "MlflowClient", run: "Run", rules: "Rules") -> Evidence:
    """Return the evidence of a run and of all finished runs that differ from it in the seed only.

    Raises:
        ValueError: if the run did not finish or has no scores.
    """
    run_id, tags = run.info.run_id, run.data.tags
    if run.info.status != "FINISHED":
        raise ValueError(f"run {run_id} is {run.info.status}, not FINISHED: only a whole run can be promoted")
    sampler = tags.get("best_sampler", "")
    headline, n = _headline(run), run.data.metrics.get(f"val_score/{sampler}/n")
    if headline is None or n is None:
        raise ValueError(
            f"run {run_id} has no score to judge it by: it needs the tags best_sampler and headline, and the metrics "
            "best/... and val_score/.../n of them"
        )
    siblings = {seed: one for seed, one in _runs_by_seed(client, run).items() if _headline(one) == headline}
    problems = [f"seed {seed}: {problem}" for seed, one in siblings.items() for problem in rules.problems(one)]
    return Evidence(
        headline=headline,
        n=f"{n:.0f}",
        digest=digest_of(run),
        sampler=sampler,
        model=tags.get("model", ""),
        # as precise as the tags of a version, so that both compare alike
        scores={seed: float(f"{one.data.metrics[f'best/{headline}']:.6g}") for seed, one in siblings.items()},
        problems=problems,
        spread=float(f"{run.data.metrics.get(f'val_score/{sampler}/{headline}_sd', 0.0):.6g}"),
        extractor_id=tags.get("extractor_id", ""),
    )


def digest_of(run: "Run") -> str:
    """Return the content hash of the data set that a run used."""
    return next((item.dataset.digest for item in dataset_inputs(run)), "")


def dataset_inputs(run: "Run") -> list["DatasetInput"]:
    """Return the data sets that a run recorded as its inputs."""
    return run.inputs.dataset_inputs if run.inputs else []


def _headline(run: "Run") -> str | None:
    """Return the name of the score by which a run was ranked, None for a run without it."""
    headline = run.data.tags.get("headline")
    return headline if headline and f"best/{headline}" in run.data.metrics else None


def _runs_by_seed(client: "MlflowClient", run: "Run") -> dict[str, "Run"]:
    """Return the run and those that differ from it in the seed only, by seed; of several with one seed the newest."""
    configuration = run.data.tags.get("config_over_seeds")
    query = f"tags.config_over_seeds = '{configuration}' and attributes.status = 'FINISHED'"
    runs: Iterable[Run] = client.search_runs([run.info.experiment_id], query) if configuration else []
    others = [one for one in runs if digest_of(one) == digest_of(run) and one.info.run_id != run.info.run_id]
    # newest first in the store, and later entries of a dict replace earlier ones: the run itself comes last
    return {one.data.tags.get("seed", "0"): one for one in [*reversed(others), run]}


@dataclass(frozen=True)
class Rules:
    """The conditions of a promotion.

    Args:
        min_improvement: the candidate's score must be lower than the champion's by this part (0.01: one per cent).
        min_seeds: number of seeds with which it must have been run.
        max_divergences: part of its sampler's chains that may have diverged.
        min_acceptance: smallest acceptance of its sampler's chains.
        min_nearest: smallest `nn_pixels_ratio`: 1 is as new as real images, 0 a copy of the training set.
        min_novelty: smallest `code_novelty` on validation images, the same for latents: below .95 its sampler copies.
    """

    min_improvement: float = 0.0
    min_seeds: int = 1
    max_divergences: float = 0.01
    min_acceptance: float = 0.1
    min_nearest: float = 0.5
    min_novelty: float = LEAST_NOVELTY

    def problems(self, run: "Run") -> list[str]:
        """Return what is wrong with a run, whatever its score: bad diagnostics of its sampler, and memorisation."""
        metrics, tags = run.data.metrics, run.data.tags
        sampler = tags.get("best_sampler", "")
        diagnostics = {key.rpartition("/")[2]: v for key, v in metrics.items() if key.startswith(f"sampler/{sampler}/")}
        n = metrics.get(f"val_score/{sampler}/n", math.nan)
        nearest = metrics.get("score/nn_pixels_ratio", metrics.get(f"val_score/{sampler}/nn_pixels_ratio", math.nan))
        found = []
        if diagnostics.get("divergences", 0) > self.max_divergences * n:
            found.append(
                f"{diagnostics['divergences']:.0f} of {n:.0f} chains diverged, at most {self.max_divergences:.1%} may"
            )
        if diagnostics.get("acceptance", 1) < self.min_acceptance:
            found.append(
                f"the sampler accepts {diagnostics['acceptance']:.1%}, it must be at least {self.min_acceptance:.0%}"
            )
        if f"warning.{sampler}" in tags:
            found.append(f"its sampler warns: {tags[f'warning.{sampler}']}")
        if nearest < self.min_nearest:
            found.append(
                f"its samples lie too near to training images: nn_pixels_ratio {nearest:.2f}, at least "
                f"{self.min_nearest} is needed"
            )
        novelty = metrics.get(f"val_score/{sampler}/code_novelty", math.nan)
        if novelty < self.min_novelty:
            found.append(
                f"its sampler copies: its latents lie {novelty:.2f} times as far from training codes as held-out codes "
                f"do, at least {self.min_novelty} is needed"
            )
        return found

    def refusals(self, candidate: Evidence, champion: Evidence | None) -> list[str]:
        """Return why `candidate` must not become the champion; an empty list where it may."""
        found = list(candidate.problems)
        if len(candidate.scores) < self.min_seeds:
            found.append(f"it was run with {len(candidate.scores)} seeds, at least {self.min_seeds} are needed")
        if champion is None:
            return found
        differing = [
            f"{key} is {getattr(candidate, key)} against the champion's {getattr(champion, key)}"
            for key in PROTOCOL
            if getattr(candidate, key) != getattr(champion, key)
        ]
        if differing:
            return [*found, f"its scores do not compare: {'; '.join(differing)}"]
        # independent runs: the standard errors of both means add in squares
        gain, noise = champion.mean - candidate.mean, math.hypot(champion.error, candidate.error)
        margin = self.min_improvement * abs(champion.mean)
        if gain <= 0:
            found.append(f"its {candidate} is not below the champion's {champion}; lower is better")
        elif gain <= max(margin, noise):
            over = "over seeds" if max(len(champion.scores), len(candidate.scores)) > 1 else "of one seed's samples"
            rule = f"the noise {over}" if noise > margin else f"min_improvement {self.min_improvement:g}"
            found.append(
                f"its {candidate} is below the champion's {champion} by {gain:.2g} only; "
                f"more than {max(margin, noise):.2g} is needed ({rule})"
            )
        return found
