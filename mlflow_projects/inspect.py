"""`mlflow run . -e inspect`: what a user must check of a folder of brain volumes before preparing it."""

from geovae import mri
from geovae.mri.cohort.prepare import DEFAULT_SELECTION
from mlflow_projects import entry


def main(source: str = "", selection: mri.Selection = DEFAULT_SELECTION, sample: int = 3) -> None:
    """Print what is in a folder beside what OASIS-1 has.

    Args:
        source: folder with the volumes and the table.
        selection: which volumes and which table.
        sample: number of volumes that are read whole; of the others only the headers.

    Examples:
        python -m mlflow_projects.inspect --source FOLDER
    """
    # before a run is opened: a wrong folder leaves no trace
    text = mri.inspect(source, selection=selection, sample=sample)
    with entry.open_run("inspect") as tracker:
        settings = {"source": source, **vars(selection), "sample": sample}
        tracker.params({f"cfg.{key}": value for key, value in settings.items()})
        tracker.text("inspection.txt", text)
    print(text)


if __name__ == "__main__":
    entry.main(main)
