"""`python -m mlflow_projects.sync [FOLDER ...]`: deliver records that runs queued while their store was down."""

from pathlib import Path

from geovae.tracking import REFUSED, read_refused, sync
from mlflow_projects import entry
from mlflow_projects.sentences import shorten


def main(*folders: str) -> None:
    """Deliver the queued records in the `folders` given before all options, by default all below `runs`.

    It also lists the records that MLflow refused. The exit code is 4 if some were not delivered.

    Examples:
        python -m mlflow_projects.sync runs
    """
    roots = [Path(root) for root in folders or (str(entry.RUNS),)]
    found = [log.parent for root in roots for log in sorted(root.rglob("records.jsonl"))]
    refused = [file for root in roots for file in root.rglob(REFUSED)]
    if missing := [str(root) for root in map(Path, folders) if not root.is_dir()]:
        raise FileNotFoundError(f"no folder {missing[0]}: give the folder of a run, or one that holds such folders")
    if not found and not refused:
        print(f"no record waits below {', '.join(map(str, roots))}: nothing to deliver")
    arrived = [_deliver(folder) for folder in found]
    for file in sorted({*refused, *(file for root in roots for file in root.rglob(REFUSED))}):
        reasons = read_refused(file)
        print(f"{file}: {len(reasons)} records that MLflow refused, the last: {(reasons or ['?'])[-1]}")
    if not all(arrived):
        raise SystemExit(entry.UNDELIVERED)


def _deliver(folder: Path) -> bool:
    """Deliver one outbox; return whether nothing of it is left. A bad one must not keep the others back."""
    try:
        print(f"{folder}: {sync(folder)} records delivered")
    except FileNotFoundError:  # its run delivered them meanwhile
        pass
    except BlockingIOError as error:  # its run is alive, and delivers them itself
        print(f"{folder}: left alone; {error}")
    except Exception as error:  # whatever a store raises
        print(f"{folder}: not delivered, kept; {shorten(str(error) or type(error).__name__)}")
        return False
    return True


if __name__ == "__main__":
    entry.main(main)
