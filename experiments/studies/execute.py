"""Executes a study: every cell once. Runs that the ledger has as finished are not repeated, interrupted ones resume.

Runs follow one another in this process. Why not on the engine of `tuning` with one run at a time: Ray and a worker need
15 s to start, more than a small study's runs take, and a study without Ray can be debugged and tested without a store.
With `address` the entry point runs the same cells on that engine first, and this code only collects them.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from experiments.config import Config, fingerprint
from experiments.judge import MODEL, rejudge
from experiments.run import plan_run, run
from experiments.studies.cells import TRAINED, Cell, Study
from geovae.evaluation import headline


@dataclass(frozen=True)
class Found:
    """A finished run: its id and its metrics by name."""

    run_id: str | None
    metrics: Mapping[str, float]


class Ledger(Protocol):
    """Where a study's runs are kept; the only thing that knows of a tracking store."""

    def find(self, mark: str) -> Found | None:
        """Return the finished run of this study whose configuration has the fingerprint `mark`."""

    def model_file(self, run_id: str) -> Path:
        """Return a local copy of the model file of a finished run."""

    def open(self, name: str, config: Config, tags: Mapping[str, object]) -> AbstractContextManager[Any]:
        """Start a run below the study's own: a context manager that gives its tracker, and ends it."""


@dataclass(frozen=True)
class Outcome:
    """One judged configuration of a cell, with the metrics of its run and the file of the model that it drew from."""

    cell: Cell
    variant: str
    found: Found
    model_file: Path

    @property
    def headline(self) -> str:
        """The name of the score by which choices are made."""
        return headline(self.cell.configs[self.variant]["extractor"])

    @property
    def samplers(self) -> list[str]:
        """The samplers that were judged."""
        end = f"/{self.headline}"
        keys = (key.removeprefix("val_score/") for key in self.found.metrics if key.startswith("val_score/"))
        return [key.removesuffix(end) for key in keys if key.endswith(end) and "/" not in key.removesuffix(end)]

    def scores(self, sampler: str, kind: str = "score") -> dict[str, float]:
        """Return what is known of one sampler: `score` (test), `val_score`, or its own diagnostics (`sampler`)."""
        start = f"{kind}/{sampler}/"
        return {k.removeprefix(start): v for k, v in self.found.metrics.items() if k.startswith(start)}


class Remembering:
    """A tracker that also keeps the metrics it passes on: they are needed when the store is away, too."""

    def __init__(self, tracker: Any) -> None:
        self.seen: dict[str, float] = {}
        self._tracker = tracker

    def metrics(self, values: Mapping[str, float], **where: Any) -> None:
        """Keep `values` and pass them on."""
        self.seen |= {key: float(value) for key, value in values.items()}
        self._tracker.metrics(values, **where)

    def __getattr__(self, name: str) -> Any:
        """Do everything else as the tracker does."""
        return getattr(self._tracker, name)


def execute(
    study: Study,
    ledger: Ledger,
    folder: Path,
    say: Callable[[str], None] = print,
    failed: Mapping[str, str] | None = None,
) -> tuple[list[Outcome], dict[str, str]]:
    """Return the outcome of every configuration, in the study's order; those not finished yet are run first.

    A run that fails (a training that diverges, codes that no sampler takes) fails alone: the second result says why,
    by the run's name, and what would be drawn from its model is left out.

    Args:
        study: from `read_study`.
        ledger: of its runs.
        folder: where runs leave their files, one folder for each configuration, found again after an interruption.
        say: told of every step, with an estimate of what is left.
        failed: runs that have failed before, elsewhere, and are not tried again.
    """
    outcomes: list[Outcome] = []
    failures = dict(failed or {})
    known = {(cell.name, v): ledger.find(fingerprint(c)) for cell in study.cells for v, c in cell.configs.items()}
    todo = sum(found is None for found in known.values())
    say(f"{study.name} ({study.size}): {len(known)} runs, {len(known) - todo} of them finished before")
    pace = Pace(study, known)
    for cell in study.cells:
        model_file = folder / fingerprint(cell.configs[TRAINED]) / MODEL
        for variant in cell.configs:  # the training first
            name, found = cell.run_name(variant), known[cell.name, variant]
            if found is None and (name in failures or cell.name in failures):
                pace.skip(cell, variant)
                continue
            if found is None:
                try:
                    found = run_variant(cell, variant, model_file, ledger)
                except (ValueError, RuntimeError, MemoryError) as error:
                    failures[name] = " ".join(str(error).split())
                    say(f"{name} failed: {failures[name]}")
                    pace.skip(cell, variant)
                    continue
                say(pace.line(cell, variant))
            if variant == TRAINED and not model_file.is_file() and found.run_id is not None:  # it was trained elsewhere
                model_file = ledger.model_file(found.run_id)
            outcomes.append(Outcome(cell, variant, found, model_file))
    return outcomes, failures


def run_variant(cell: Cell, variant: str, model_file: Path, ledger: Ledger) -> Found:
    """Train the cell's model, or draw from it with the options of a variant."""
    if variant == TRAINED:
        return train_cell(cell, ledger, model_file.parent)
    return judge_variant(cell, variant, cell.configs[variant], model_file, ledger)


def train_cell(cell: Cell, ledger: Ledger, output: Path) -> Found:
    """Train and judge the cell's model; a checkpoint that an interrupted run left in `output` is gone on from."""
    config = cell.configs[TRAINED]
    with ledger.open(cell.name, config, {"cell": cell.name}) as tracker:
        tracker = Remembering(tracker)
        output.mkdir(parents=True, exist_ok=True)
        return Found(run(plan_run(config), output=output, tracker=tracker).run_id, tracker.seen)


def judge_variant(cell: Cell, variant: str, config: Config, model_file: Path, ledger: Ledger) -> Found:
    """Draw from the cell's trained model with the options of one variant."""
    with ledger.open(cell.run_name(variant), config, {"cell": cell.name, "variant": variant}) as tracker:
        tracker = Remembering(tracker)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="sampler ")  # a variant may be meant to fail; its run has the tag
            result = rejudge(model_file, config, output=model_file.parent, keep=False, tracker=tracker)
        return Found(result.run_id, tracker.seen)


class Pace:
    """How long runs of each kind take, and so about how long the rest will."""

    def __init__(self, study: Study, known: Mapping[tuple[str, str], Found | None]) -> None:
        self._left = [
            (cell.data, cell.model, v) for cell in study.cells for v in cell.configs if known[cell.name, v] is None
        ]
        self._total = len(self._left)
        self._seconds: dict[tuple[str, str, str], list[float]] = {}
        self._last = time.monotonic()

    def line(self, cell: Cell, variant: str) -> str:
        """Note that a run has ended now; return the line that says so."""
        now = time.monotonic()
        kind = (cell.data, cell.model, variant)
        took, self._last = now - self._last, now
        self._seconds.setdefault(kind, []).append(took)
        self._left.remove(kind)
        name = " ".join(word for word in (cell.name, variant) if word)
        place = f"[{self._total - len(self._left)}/{self._total}]"
        return f"{place} {name}: {duration(took)}; about {duration(self._rest())} left"

    def skip(self, cell: Cell, variant: str) -> None:
        """Note that a run will not come."""
        self._last = time.monotonic()
        self._left.remove((cell.data, cell.model, variant))

    def _rest(self) -> float:
        """Sum over what is left: the mean of its own kind, or of trainings or variants, or of all."""
        trained = [s for kind, some in self._seconds.items() for s in some if kind[2] == TRAINED]
        drawn = [s for kind, some in self._seconds.items() for s in some if kind[2] != TRAINED]
        alike = {True: trained or drawn, False: drawn or trained}
        return sum(_mean(self._seconds.get(kind) or alike[kind[2] == TRAINED]) for kind in self._left)


def duration(seconds: float) -> str:
    """Return a time in words, such as 45 s, 3 min or 2.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
