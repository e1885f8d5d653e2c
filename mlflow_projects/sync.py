"""`python -m mlflow_projects.sync [FOLDER ...]`: deliver records that runs queued while their store was down."""

from pathlib import Path

from geovae.tracking import sync
from mlflow_projects import entry


def main(*folders: str) -> None:
    """Deliver the queued records in the `folders` given before all options, by default all below `runs`."""
    roots = folders or (str(entry.RUNS),)
    found = [log.parent for root in roots for log in sorted(Path(root).rglob("records.jsonl"))]
    if not found:
        raise FileNotFoundError(f"no tracking records below {', '.join(roots)}: nothing to deliver")
    for folder in found:
        try:
            print(f"{folder}: {sync(folder)} records delivered")
        except BlockingIOError as error:  # its run is alive, and delivers them itself
            print(f"{folder}: left alone; {error}")


if __name__ == "__main__":
    entry.main(main)
