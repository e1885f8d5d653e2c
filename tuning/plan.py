"""What the cluster is asked to do: tasks, and which trial of a sweep comes next, by successive halving over seeds.

Without Ray, which takes seconds to load, and without MLflow.

Every configuration gets `seeds[0]` runs. Once all have ended, the best 1/`reduction` get `seeds[1]` runs, and so on.
A configuration whose first run the scheduler stops gets no further seed.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from experiments.config import Config, Options
from geovae.checks import check_count
from geovae.evaluation import LEAST_NOVELTY
from tuning.search import Search

if TYPE_CHECKING:
    from experiments.judge import Result


State = Literal["WAITING", "RUNNING", "FINISHED", "STOPPED", "FAILED", "KILLED"]
OPEN = ("WAITING", "RUNNING")
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Task:
    """One run: a resolved configuration with its place and tags.

    `model_file` is a trained model to draw from and to judge; without it one is trained. `folder` is the run's folder
    below the storage, by default its name; a run resumes from a checkpoint that it finds there. `tags` are added to the
    run's.
    """

    config: Config
    model_file: str | None = None
    folder: str = ""
    tags: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why a run has no result."""

    state: str
    reason: str


@dataclass(frozen=True)
class Trial:
    """One run to do: a configuration, one of its seeds, and the searched options."""

    configuration: int
    seed: int
    options: Options

    @property
    def name(self) -> str:
        """The name of its MLflow run and of its folder."""
        return f"c{self.configuration:04d}-s{self.seed}"


@dataclass
class Run:
    """The outcome of a trial: its MLflow run, its score (lower is better) or the reason for none, its result.

    `changed` are the options that population based training has changed, `test_scores` those of the sampler that is
    best on validation images, `novelty` its code novelty beside these.
    """

    run_id: str | None = None
    state: State = "WAITING"
    score: float | None = None
    reason: str = ""
    result: "Result | None" = None
    changed: Options = field(default_factory=dict)
    test_scores: Mapping[str, float] = field(default_factory=dict)
    novelty: float | None = None


@dataclass
class Configuration:
    """One configuration with its runs by seed; `changed` are options that population based training has changed."""

    number: int
    options: Options
    runs: dict[int, Run] = field(default_factory=dict)
    run_id: str | None = None
    changed: Options = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its MLflow run."""
        return f"c{self.number:04d}"

    @property
    def scores(self) -> list[float]:
        """The scores of the finished runs, in the order of their seeds."""
        return list(self.scores_by_seed.values())

    @property
    def scores_by_seed(self) -> dict[str | int, float]:
        """The scores of the finished runs, by seed."""
        runs = sorted(self.runs.items())
        return {seed: run.score for seed, run in runs if run.state == "FINISHED" and run.score is not None}

    @property
    def mean(self) -> float:
        """Mean score over the seeds; infinite without a score."""
        return statistics.fmean(self.scores) if self.scores else math.inf

    @property
    def stderr(self) -> float:
        """Standard error of the mean; NaN below two seeds."""
        return statistics.stdev(self.scores) / math.sqrt(len(self.scores)) if len(self.scores) > 1 else math.nan

    @property
    def copies(self) -> bool:
        """Whether the best samplers of its runs stay near their training codes, by the mean of their code novelty."""
        found = [run.novelty for run in self.runs.values() if run.novelty is not None]
        return bool(found) and statistics.fmean(found) < LEAST_NOVELTY

    @property
    def state(self) -> State:
        """The first of RUNNING, WAITING, FINISHED, STOPPED, KILLED, FAILED that any of its runs has."""
        states = [run.state for run in self.runs.values()]
        order: tuple[State, ...] = ("RUNNING", "WAITING", "FINISHED", "STOPPED", "KILLED", "FAILED")
        return next((state for state in order if state in states), "WAITING")


def ranked(configurations: Sequence[Configuration]) -> list[Configuration]:
    """Return the judged configurations, best first.

    Configurations with a failed run come last, before them those whose samplers copy. Those with more seeds come before
    those with fewer, since halving chose them: their means over more seeds are no longer the lucky ones. Then the mean
    score decides.
    """

    def key(c: Configuration) -> tuple[bool, bool, int, float, int]:
        return any(run.state != "FINISHED" for run in c.runs.values()), c.copies, -len(c.runs), c.mean, c.number

    return sorted((c for c in configurations if c.scores), key=key)


def check_rounds(seeds: Sequence[int], reduction: int) -> None:
    """Raise a ValueError for rounds that do not grow, or a reduction below 2."""
    if not seeds or any(b <= a for a, b in zip((0, *seeds), seeds, strict=False)):
        raise ValueError(f"`seeds` must be whole numbers that grow from at least 1, got {list(seeds)}")
    if seeds[-1] > MOST_SEEDS:
        raise ValueError(f"`seeds` must be at most {MOST_SEEDS}, got {seeds[-1]}")
    check_count(low=2, reduction=reduction)


class Plan:
    """Proposes configurations as trials, repeats them over seeds, and promotes the best.

    Args:
        search: proposes the configurations.
        seeds: runs of a configuration in each round, growing.
        reduction: the best 1/`reduction` of a round enter the next.
        first_alone: run the first seed of a configuration before the others, since a scheduler may stop it.
    """

    def __init__(
        self, search: Search, *, seeds: Sequence[int] = (3,), reduction: int = 3, first_alone: bool = False
    ) -> None:
        check_rounds(seeds, reduction)
        self.search, self.seeds, self.reduction, self.first_alone = search, list(seeds), reduction, first_alone
        self.configurations: list[Configuration] = []
        self._exhausted = False
        self._scored: set[int] = set()  # configurations whose score the search has
        # only configurations with a run that has not ended: a sweep may have thousands, and `next` is called often
        self._open: dict[int, Configuration] = {}
        self._round = 0

    def restore(self, configuration: Configuration) -> None:
        """Add a configuration of a sweep that is resumed; its runs without an end wait again."""
        self.search.ask(configuration.options)  # counts as proposed, and TPE learns from its score
        self._append(configuration)
        for run in configuration.runs.values():
            if run.state in ("RUNNING", "KILLED"):  # the driver died, not they
                run.state = "WAITING"
        self._score(configuration)

    def next(self) -> Trial | None:
        """Return the next trial, None if there is none at the moment (see `finished`)."""
        # waiting trials first: scores of whole configurations let the search learn early
        trial = self._waiting() or self._propose()
        if trial is None and self._exhausted and not self._busy():
            trial = self._promote()
        if trial is not None:
            self.run_of(trial).state = "RUNNING"
        return trial

    @property
    def finished(self) -> bool:
        """Whether no trial runs or waits, and none will be proposed."""
        return self._exhausted and self._round >= len(self.seeds) - 1 and not self._busy()

    def run_of(self, trial: Trial) -> Run:
        """Return the record of a trial."""
        return self.configurations[trial.configuration].runs[trial.seed]

    def on_trial_end(self, trial: Trial, run: Run) -> None:
        """Record the outcome of a trial."""
        configuration = self.configurations[trial.configuration]
        configuration.runs[trial.seed] = run
        configuration.changed |= run.changed
        self._score(configuration)

    def requeue(self, trial: Trial) -> None:
        """Put a trial back whose process died."""
        self.run_of(trial).state = "WAITING"
        self._open[trial.configuration] = self.configurations[trial.configuration]

    def _score(self, configuration: Configuration) -> None:
        """Give the search the score of a configuration, once its first round has ended."""
        first_round = [configuration.runs.get(seed) for seed in range(self.seeds[0])]
        dropped = self._dropped(configuration)
        unfinished = any(run is None or run.state in OPEN for run in first_round)
        if configuration.number in self._scored or (unfinished and not dropped):
            return
        self._scored.add(configuration.number)  # Optuna refuses a second score
        self.search.tell(configuration.number, configuration.mean if configuration.scores and not dropped else None)

    def _dropped(self, configuration: Configuration) -> bool:
        first = configuration.runs.get(0)
        return self.first_alone and first is not None and first.state in ("STOPPED", "FAILED")

    def _busy(self) -> bool:
        return any(run.state in OPEN for c in self._open.values() for run in c.runs.values())

    def _waiting(self) -> Trial | None:
        for configuration in list(self._open.values()):
            first = configuration.runs.get(0)
            alone = self.first_alone and (first is None or first.state in OPEN)
            if not self._dropped(configuration):
                for seed in range(1 if alone else self.seeds[0]):
                    configuration.runs.setdefault(seed, Run())
            for seed, run in configuration.runs.items():
                if run.state == "WAITING":
                    return Trial(configuration.number, seed, configuration.options)
            if configuration.state != "RUNNING":
                del self._open[configuration.number]
        return None

    def _propose(self) -> Trial | None:
        options = None if self._exhausted else self.search.ask()
        if options is None:
            self._exhausted = True
            return None
        self._append(Configuration(len(self.configurations), options))
        return self._waiting()

    def _append(self, configuration: Configuration) -> None:
        self.configurations.append(configuration)
        self._open[configuration.number] = configuration

    def _promote(self) -> Trial | None:
        """Give the best configurations of a round the seeds of the next."""
        while self._round < len(self.seeds) - 1:
            before, after = self.seeds[self._round], self.seeds[self._round + 1]
            judged = [c for c in self.configurations if len(c.scores) >= before and not self._dropped(c)]
            # only the seeds of this round count: a resumed sweep has later ones, and must choose the same
            judged.sort(key=lambda c: (statistics.fmean(c.scores[:before]), c.number))
            self._round += 1
            for configuration in judged[: math.ceil(len(judged) / self.reduction)]:
                self._open[configuration.number] = configuration
                for seed in range(after):
                    configuration.runs.setdefault(seed, Run())
            if trial := self._waiting():
                return trial
        return None


def best_run(configuration: Configuration) -> Run:
    """Return the run with the lowest score of a judged configuration."""
    scored = [run for run in configuration.runs.values() if run.score is not None]
    return min(scored, key=lambda run: run.score or 0.0)
