"""`mlflow run . -e prepare`: turn an original distribution into the files that a data set's loader reads."""

import json
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any, get_args

from experiments.config import flatten
from experiments.quality import track_quality
from geovae import mri
from geovae.data.builders import BUILDERS
from geovae.mri.steps.slices import View
from geovae.tracking import MlflowTracker
from mlflow_projects import entry

KNOWN = {**BUILDERS, "oasis": mri.prepare}
QUALITY = {"shown": "48", "masked_ids": "false", "qc_view": "neurological"}


def main(flags: Sequence[str]) -> None:
    """Build `--dataset` from the files in `--source` below `--root`; the other flags are the builder's options.

    For oasis also: `--shown N` sessions in the quality figures, `--masked_ids true`, `--qc_view radiological`.
    """
    values, rest = entry.take_flags(flags, dataset="")
    name = values["dataset"]
    if name not in KNOWN:
        raise ValueError(f"unknown dataset {name!r}; choose from {', '.join(KNOWN)}")
    shown: dict[str, str] = {}
    if name == "oasis":
        shown, rest = entry.take_flags(rest, **QUALITY)
        _check_quality(shown)
    options = entry.bind(KNOWN[name], rest, f"prepare --dataset {name}")
    if name == "oasis":
        mri.discover(options["source"], options["selection"].layout, product=options["selection"].product)
    with entry.open_run("prepare") as tracker:
        tracker.params({f"cfg.{key}": value for key, value in _flatten_groups(values | options | shown).items()})
        report = _prepare_oasis(tracker, options, shown) if name == "oasis" else BUILDERS[name](**options)
        if shown.get("masked_ids") != "true":
            tracker.text("build.json", json.dumps(report, indent=2, default=str))
    print(json.dumps(report, indent=2, default=str))


def _flatten_groups(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options, with those of dataclasses beside the others."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat |= vars(value) if is_dataclass(value) else {name: value}
    return flat


def _check_quality(shown: dict[str, str]) -> None:
    entry.whole("shown", shown["shown"], 1)
    for name, allowed in {"masked_ids": ("true", "false"), "qc_view": get_args(View)}.items():
        if shown[name] not in allowed:
            raise ValueError(f"`{name}` must be {' or '.join(allowed)}, got {shown[name]!r}")


def _prepare_oasis(tracker: MlflowTracker, options: dict[str, Any], shown: dict[str, str]) -> dict[str, Any]:
    """Prepare brain volumes; track where they come from, what was done, and how they look."""
    masked = shown["masked_ids"] == "true"
    try:
        report = mri.prepare(**options)
    except mri.InputProblems as problems:
        if not masked:
            tracker.text("problems.txt", f"{problems}\n")
        raise
    counts = report["counts"]
    tracker.metrics({f"count/{key}": value for key, value in counts.items()})
    tracker.tags({"input_hash": report["input_hash"], "dataset": "oasis"})
    tracker.params(flatten({"settings": report["settings"]}))
    tracker.dataset(
        name="oasis-source",
        digest=report["input_hash"],
        source=str(options["source"]),
        context="source",
        shape=(counts["used"], *(report["settings"]["shape"] or ())),
    )
    track_quality(
        tracker,
        options["root"],
        shown=int(shown["shown"]),
        masked_ids=masked,
        view=shown["qc_view"],  # type: ignore[arg-type]
    )
    return {key: value for key, value in report.items() if key != "settings"}


if __name__ == "__main__":
    entry.main(main)
