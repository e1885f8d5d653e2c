"""What speaks for a model: its headline score over seeds, how it was measured, and what its sampler says of itself."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PROTOCOL = ("headline", "n", "digest")  # numbers compare only where these agree


@dataclass(frozen=True)
class Evidence:
    """A configuration's headline scores by seed (on validation images, lower is better) and how they were measured.

    `problems` are the reasons why no run of it should be trusted, whatever its scores.
    """

    headline: str
    n: str
    digest: str
    sampler: str
    model: str
    scores: dict[str, float]
    problems: list[str] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """The mean score over the seeds."""
        return statistics.fmean(self.scores.values())

    @property
    def error(self) -> float:
        """The standard error of the mean, 0 where there is one seed."""
        n = len(self.scores)
        return statistics.stdev(self.scores.values()) / math.sqrt(n) if n > 1 else 0.0

    def __str__(self) -> str:
        seeds = len(self.scores)
        spread = f" ± {self.error:.2g} over {seeds} seeds" if seeds > 1 else ""
        return f"{self.headline} {self.mean:.4g}{spread}"

    def tags(self) -> dict[str, str]:
        """Return it as a model version's tags."""
        return {
            "headline": self.headline,
            "extractor": self.extractor,
            "score": f"{self.mean:.6g}",
            "scores": json.dumps(self.scores),
            "sampler": self.sampler,
            "model": self.model,
            "digest": self.digest,
            "n": self.n,
        }

    @property
    def extractor(self) -> str:
        """Whose features the headline score compares."""
        return "inception" if self.headline == "fid" else self.headline.removeprefix("fd_")

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> "Evidence | None":
        """Return what `tags` wrote; None for a version that was registered without it."""
        if not {"headline", "n", "digest", "scores"} <= tags.keys():
            return None
        scores = {seed: float(value) for seed, value in json.loads(tags["scores"]).items()}
        return cls(tags["headline"], tags["n"], tags["digest"], tags.get("sampler", ""), tags.get("model", ""), scores)


def gather(client: "MlflowClient", run: "Run", rules: "Rules") -> Evidence:
    """Return the evidence of a run and of all finished runs that differ from it in nothing but the seed.

    Raises:
        ValueError: if the run did not finish or has no scores.
    """
    run_id, tags = run.info.run_id, run.data.tags
    if run.info.status != "FINISHED":
        raise ValueError(f"run {run_id} is {run.info.status}, not FINISHED: only a whole run can be promoted")
    sampler = tags.get("best_sampler", "")
    own, n = _headlines(run), run.data.metrics.get(f"val_score/{sampler}/n")
    if not own or n is None:
        raise ValueError(
            f"run {run_id} has no score to judge it by: it needs the tags best_sampler and headline, and the metrics "
            "best/... and val_score/.../n of them"
        )
    headline = own[0]
    siblings = {seed: one for seed, one in _over_seeds(client, run).items() if headline in _headlines(one)}
    problems = [f"seed {seed}: {why}" for seed, one in siblings.items() for why in rules.problems(one)]
    return Evidence(
        headline=headline,
        n=f"{n:.0f}",
        digest=digest_of(run),
        sampler=sampler,
        model=tags.get("model", ""),
        scores={seed: float(f"{one.data.metrics[f'best/{headline}']:.6g}") for seed, one in siblings.items()},
        problems=problems,
    )


def digest_of(run: "Run") -> str:
    """Return the content hash of the data set that a run used."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return next((item.dataset.digest for item in inputs), "")


def _headlines(run: "Run") -> list[str]:
    """Return the score that a run was ranked by, as a list of one, or of none."""
    headline = run.data.tags.get("headline")
    return [headline] if headline and f"best/{headline}" in run.data.metrics else []


def _over_seeds(client: "MlflowClient", run: "Run") -> dict[str, "Run"]:
    """Return the run and its siblings by seed; of two with one seed the run itself, or the newer one."""
    alike = run.data.tags.get("config_over_seeds")
    query = f"tags.config_over_seeds = '{alike}' and attributes.status = 'FINISHED'"
    found: Iterable[Run] = client.search_runs([run.info.experiment_id], query) if alike else []
    same = [one for one in found if digest_of(one) == digest_of(run) and one.info.run_id != run.info.run_id]
    return {one.data.tags.get("seed", "0"): one for one in [*reversed(same), run]}


@dataclass(frozen=True)
class Rules:
    """What a candidate must fulfil.

    Args:
        min_improvement: least part by which its score must be lower than the champion's (0.01: one per cent).
        min_seeds: least number of seeds it was run with.
        max_divergences: largest part of its sampler's chains that may have diverged.
        min_acceptance: least acceptance of its sampler's chains.
        min_nearest: least `nn_pixels_ratio`: 1 is as new as real images, 0 a copy of the training set.
    """

    min_improvement: float = 0.0
    min_seeds: int = 1
    max_divergences: float = 0.01
    min_acceptance: float = 0.1
    min_nearest: float = 0.5

    def problems(self, run: "Run") -> list[str]:
        """Return what is wrong with a run, whatever its score: its sampler's own diagnostics, and memorisation."""
        metrics, tags = run.data.metrics, run.data.tags
        sampler = tags.get("best_sampler", "")
        own = {key.rpartition("/")[2]: v for key, v in metrics.items() if key.startswith(f"sampler/{sampler}/")}
        n = metrics.get(f"val_score/{sampler}/n", math.nan)
        nearest = metrics.get("score/nn_pixels_ratio", metrics.get(f"val_score/{sampler}/nn_pixels_ratio", math.nan))
        found = []
        if own.get("divergences", 0) > self.max_divergences * n:
            found.append(f"{own['divergences']:.0f} of {n:.0f} chains diverged, at most {self.max_divergences:.1%} may")
        if own.get("acceptance", 1) < self.min_acceptance:
            found.append(f"the sampler accepts {own['acceptance']:.1%}, it must be at least {self.min_acceptance:.0%}")
        if f"warning.{sampler}" in tags:
            found.append(f"its sampler warns: {tags[f'warning.{sampler}']}")
        if nearest < self.min_nearest:
            found.append(
                f"its samples lie too near to training images: nn_pixels_ratio {nearest:.2f}, at least "
                f"{self.min_nearest} is needed"
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
        gain, noise = champion.mean - candidate.mean, math.hypot(champion.error, candidate.error)
        margin = self.min_improvement * abs(champion.mean)
        if gain <= 0:
            found.append(f"its {candidate} is not below the champion's {champion}; lower is better")
        elif gain <= max(margin, noise):
            rule = "the noise over seeds" if noise > margin else f"min_improvement {self.min_improvement:g}"
            found.append(
                f"its {candidate} is below the champion's {champion} by {gain:.2g} only; "
                f"more than {max(margin, noise):.2g} is needed ({rule})"
            )
        return found
