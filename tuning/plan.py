"""Which run comes next: configurations and their seeds, successive halving over seeds. No Ray, no MLflow.

A configuration is judged on `seeds[0]` runs; once all have been, the best 1/`reduction` of them get `seeds[1]` runs,
and so on. A configuration whose first run the scheduler stops gets no further seed.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tuning.search import Search
from tuning.space import Options

State = Literal["WAITING", "RUNNING", "FINISHED", "STOPPED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Job:
    """One run: a configuration, one of its seeds, and the searched options."""

    configuration: int
    seed: int
    options: Options

    @property
    def name(self) -> str:
        """Its name in MLflow and of its folder."""
        return f"c{self.configuration:04d}-s{self.seed}"


@dataclass
class Run:
    """What became of a job: its MLflow run, its score (lower is better) or why there is none, its result."""

    run_id: str | None = None
    state: State = "WAITING"
    score: float | None = None
    reason: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    changed: Options = field(default_factory=dict)


@dataclass
class Configuration:
    """One configuration with its runs by seed."""

    number: int
    options: Options
    runs: dict[int, Run] = field(default_factory=dict)
    run_id: str | None = None
    changed: Options = field(default_factory=dict)  # by population based training, while it ran

    @property
    def name(self) -> str:
        """Its name in MLflow."""
        return f"c{self.number:04d}"

    @property
    def scores(self) -> list[float]:
        """The scores of the runs that finished."""
        return [run.score for run in self.runs.values() if run.state == "FINISHED" and run.score is not None]

    @property
    def mean(self) -> float:
        """Mean score over the seeds; infinite without any."""
        return statistics.fmean(self.scores) if self.scores else math.inf

    def mean_of(self, count: int) -> float:
        """Mean score over the first `count` seeds that finished."""
        return statistics.fmean([self.runs[seed].score or 0.0 for seed in self.finished_seeds[:count]])

    @property
    def finished_seeds(self) -> list[int]:
        """The seeds whose runs finished."""
        return sorted(seed for seed, run in self.runs.items() if run.state == "FINISHED" and run.score is not None)

    @property
    def stderr(self) -> float:
        """Standard error of the mean; not a number below two seeds."""
        return statistics.stdev(self.scores) / math.sqrt(len(self.scores)) if len(self.scores) > 1 else math.nan

    @property
    def state(self) -> State:
        """FINISHED if any seed did; otherwise what its runs came to."""
        states = [run.state for run in self.runs.values()]
        order: tuple[State, ...] = ("RUNNING", "WAITING", "FINISHED", "STOPPED", "KILLED", "FAILED")
        return next((state for state in order if state in states), "WAITING")


def ranked(configurations: Sequence[Configuration]) -> list[Configuration]:
    """Return the judged configurations, best first.

    Those with a run that failed come last. Those that went on to more seeds come before those that did not: the mean of
    the few seeds that chose them is no longer their own. Then the mean score decides.
    """

    def key(c: Configuration) -> tuple[bool, int, float, int]:
        return any(run.state != "FINISHED" for run in c.runs.values()), -len(c.runs), c.mean, c.number

    return sorted((c for c in configurations if c.scores), key=key)


class Plan:
    """Proposes jobs, and hears what became of them.

    Args:
        search: proposes the configurations.
        seeds: how many runs a configuration gets in each round, growing.
        reduction: the best 1/`reduction` of a round go on to the next.
        first_alone: run a configuration's first seed before the others, since a scheduler may stop it.
    """

    def __init__(
        self, search: Search, *, seeds: Sequence[int] = (3,), reduction: int = 3, first_alone: bool = False
    ) -> None:
        if not seeds or any(b <= a for a, b in zip((0, *seeds), seeds, strict=False)):
            raise ValueError(f"`seeds` must be whole numbers that grow from at least 1, got {list(seeds)}")
        if reduction < 2:
            raise ValueError(f"`reduction` must be at least 2, got {reduction}")
        self.search, self.seeds, self.reduction, self.first_alone = search, list(seeds), reduction, first_alone
        self.configurations: list[Configuration] = []
        self._exhausted = self._stopped = False
        self._told: set[int] = set()
        self._open: dict[int, Configuration] = {}  # those with a run that did not end: a sweep may have thousands
        self._round = 0

    def add(self, configuration: Configuration) -> None:
        """Take up a configuration of a sweep that goes on; its runs that did not end wait for their turn again."""
        self.search.ask(configuration.options)
        self._append(configuration)
        for run in configuration.runs.values():
            if run.state in ("RUNNING", "KILLED"):
                run.state = "WAITING"
        self._settle(configuration)

    def next(self) -> Job | None:
        """Return the next job, None if there is none now (see `finished`)."""
        if self._stopped:
            return None
        job = self._waiting() or self._new()
        if job is None and self._exhausted and not self._busy():
            job = self._promote()
        if job is not None:
            self.run_of(job).state = "RUNNING"
        return job

    @property
    def finished(self) -> bool:
        """Whether there is nothing to do any more."""
        return (self._stopped or (self._exhausted and self._round >= len(self.seeds) - 1)) and not self._busy()

    def stop(self) -> None:
        """Propose nothing more."""
        self._stopped = True

    def run_of(self, job: Job) -> Run:
        """Return the record of a job."""
        return self.configurations[job.configuration].runs[job.seed]

    def tell(self, job: Job, run: Run) -> None:
        """Hear what became of a job."""
        configuration = self.configurations[job.configuration]
        configuration.runs[job.seed] = run
        configuration.changed |= run.changed
        self._settle(configuration)

    def again(self, job: Job) -> None:
        """Take back a job that has not begun."""
        self.run_of(job).state = "WAITING"
        self._open[job.configuration] = self.configurations[job.configuration]

    def _settle(self, configuration: Configuration) -> None:
        """Once a configuration's first round is over, tell the search."""
        first = [configuration.runs.get(seed) for seed in range(self.seeds[0])]
        dropped = self._dropped(configuration)
        open_ones = [run for run in first if run is None or run.state in ("WAITING", "RUNNING")]
        if configuration.number in self._told or (open_ones and not dropped):
            return
        self._told.add(configuration.number)
        self.search.tell(configuration.number, configuration.mean if configuration.scores and not dropped else None)

    def _dropped(self, configuration: Configuration) -> bool:
        first = configuration.runs.get(0)
        return self.first_alone and first is not None and first.state in ("STOPPED", "FAILED")

    def _busy(self) -> bool:
        return any(run.state in ("WAITING", "RUNNING") for c in self._open.values() for run in c.runs.values())

    def _waiting(self) -> Job | None:
        for configuration in list(self._open.values()):
            first = configuration.runs.get(0)
            alone = self.first_alone and (first is None or first.state in ("WAITING", "RUNNING"))
            if not self._dropped(configuration):
                for seed in range(1 if alone else self.seeds[0]):
                    configuration.runs.setdefault(seed, Run())
            for seed, run in configuration.runs.items():
                if run.state == "WAITING":
                    return Job(configuration.number, seed, configuration.options)
            if all(run.state != "RUNNING" for run in configuration.runs.values()):
                del self._open[configuration.number]
        return None

    def _new(self) -> Job | None:
        if self._exhausted:
            return None
        options = self.search.ask()
        if options is None:
            self._exhausted = True
            return None
        self._append(Configuration(len(self.configurations), options))
        return self._waiting()

    def _append(self, configuration: Configuration) -> None:
        self.configurations.append(configuration)
        self._open[configuration.number] = configuration

    def _promote(self) -> Job | None:
        """Give the best configurations of a round the seeds of the next."""
        while self._round < len(self.seeds) - 1:
            before, after = self.seeds[self._round], self.seeds[self._round + 1]
            judged = [c for c in self.configurations if len(c.scores) >= before and not self._dropped(c)]
            judged.sort(key=lambda c: (c.mean_of(before), c.number))  # later seeds do not count: going on decides alike
            self._round += 1
            for configuration in judged[: math.ceil(len(judged) / self.reduction)]:
                self._open[configuration.number] = configuration
                for seed in range(after):
                    configuration.runs.setdefault(seed, Run())
            if job := self._waiting():
                return job
        return None
