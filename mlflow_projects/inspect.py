"""`mlflow run . -e inspect`: what a user must check of a folder of brain volumes before preparing it."""

from collections.abc import Sequence

from geovae import mri
from mlflow_projects import entry


def main(flags: Sequence[str]) -> None:
    """Print what was found in `--source` beside what OASIS-1 has; the other flags are those of `geovae.mri.inspect`."""
    options = entry.bind(mri.inspect, flags, "inspect")
    text = mri.inspect(**options)
    with entry.open_run("inspect") as tracker:
        tracker.params({f"cfg.{key}": value for key, value in options.items()})
        tracker.text("inspection.txt", text)
    print(text)


if __name__ == "__main__":
    entry.main(main)
