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
    """The runs of a study in a tracking store; the rest of this room knows no store."""

    def find(self, digest: str) -> Found | None:
        """Return the finished run of a study whose configuration has the fingerprint `digest`."""

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


class RecordingTracker:
    """A tracker that also keeps the metrics in memory: reports need them even if the store does not answer."""

    def __init__(self, tracker: Any) -> None:
        self.recorded: dict[str, float] = {}
        self._tracker = tracker

    def metrics(self, values: Mapping[str, float], **options: Any) -> None:
        """Keep `values` and pass them on."""
        self.recorded |= {key: float(value) for key, value in values.items()}
        self._tracker.metrics(values, **options)

    def __getattr__(self, name: str) -> Any:
        """Pass everything else on."""
        return getattr(self._tracker, name)


def execute(
    study: Study,
    ledger: Ledger,
    folder: Path,
    report_progress: Callable[[str], None] = print,
    failed: Mapping[str, str] | None = None,
) -> tuple[list[Outcome], dict[str, str]]:
    """Return the outcome of every configuration, in the study's order; those not finished yet are run first.

    A failed run (a training that diverges, codes that no sampler takes) does not stop the study: the second result has
    the reason under the run's name, and the variants of its model are left out. `folder` has a subfolder for each
    configuration, from which an interrupted run resumes. Runs that `failed` elsewhere before are not tried again.
    """
    outcomes: list[Outcome] = []
    failures = dict(failed or {})
    known = {(cell.name, v): ledger.find(fingerprint(c)) for cell in study.cells for v, c in cell.configs.items()}
    n_waiting, n_done, started = sum(found is None for found in known.values()), 0, time.monotonic()
    n_finished = len(known) - n_waiting
    report_progress(f"{study.name} ({study.size}): {len(known)} runs, {n_finished} of them finished before")
    for cell in study.cells:
        model_file = folder / fingerprint(cell.configs[TRAINED]) / MODEL
        for variant in cell.configs:  # the training first
            name, found = cell.run_name(variant), known[cell.name, variant]
            if found is None and not {name, cell.name} & failures.keys():
                try:
                    found = run_variant(cell, variant, model_file, ledger)
                except (ValueError, RuntimeError, MemoryError) as error:
                    failures[name] = " ".join(str(error).split())
                    report_progress(f"{name} failed: {failures[name]}")
            n_done += known[cell.name, variant] is None
            if found is None:
                continue
            if known[cell.name, variant] is None:
                left = (time.monotonic() - started) / n_done * (n_waiting - n_done)
                report_progress(f"[{n_done}/{n_waiting}] {name}: about {duration(left)} left")
            if variant == TRAINED and not model_file.is_file() and found.run_id is not None:  # trained elsewhere
                model_file = ledger.model_file(found.run_id)
            outcomes.append(Outcome(cell, variant, found, model_file))
    return outcomes, failures


def run_variant(cell: Cell, variant: str, model_file: Path, ledger: Ledger) -> Found:
    """Train the cell's model, resuming from a checkpoint if there is one, or draw from it with a variant's options."""
    config, output = cell.configs[variant], model_file.parent
    tags = {"cell": cell.name} | ({"variant": variant} if variant != TRAINED else {})
    with ledger.open(cell.run_name(variant), config, tags) as child, warnings.catch_warnings():
        tracker = RecordingTracker(child)
        if variant == TRAINED:
            output.mkdir(parents=True, exist_ok=True)
            result = run(plan_run(config), output=output, tracker=tracker)
        else:
            warnings.filterwarnings("ignore", message="sampler ")  # a variant may be meant to fail; its run has the tag
            result = rejudge(model_file, config, output=output, keep=False, tracker=tracker)
        return Found(result.run_id, tracker.recorded)


def duration(seconds: float) -> str:
    """Return a time in words, such as 45 s, 3 min or 2.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
