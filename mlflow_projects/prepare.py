"""`mlflow run . -e prepare`: turn an original distribution into the files that a data set's loader reads."""

import json
from collections.abc import Sequence

from geovae.data.build import BUILDERS
from mlflow_projects import entry


def main(flags: Sequence[str]) -> None:
    """Build `--dataset` from the files in `--source` below `--root`; the other flags are the builder's options."""
    values, rest = entry.take_flags(flags, dataset="")
    if values["dataset"] not in BUILDERS:
        raise ValueError(f"unknown dataset {values['dataset']!r}; choose from {', '.join(BUILDERS)}")
    build = BUILDERS[values["dataset"]]
    options = entry.bind(build, rest, f"prepare --dataset {values['dataset']}")
    with entry.open_run("prepare") as tracker:
        tracker.params({f"cfg.{key}": value for key, value in (values | options).items()})
        report = build(**options)
        tracker.text("build.json", json.dumps(report, indent=2, default=str))
    print(json.dumps(report, indent=2, default=str))


if __name__ == "__main__":
    entry.main(main)
