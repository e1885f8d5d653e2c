"""`python -m mlflow_projects.sync [FOLDER ...]`: deliver tracking records that runs kept while their store was away."""

from collections.abc import Sequence
from pathlib import Path

from geovae.tracking import sync
from mlflow_projects import entry


def main(flags: Sequence[str]) -> None:
    """Deliver the outboxes in the folders given, by default all below `runs`."""
    if "--help" in flags:
        print(__doc__)
        return
    found = [log.parent for root in flags or [str(entry.RUNS)] for log in sorted(Path(root).rglob("records.jsonl"))]
    if not found:
        raise FileNotFoundError(f"no tracking records below {', '.join(flags) or entry.RUNS}: nothing to deliver")
    for folder in found:
        try:
            print(f"{folder}: {sync(folder)} records delivered")
        except BlockingIOError as error:
            print(f"{folder}: left alone; {error}")


if __name__ == "__main__":
    entry.main(main)
