"""`mlflow run . -e inspect`: what a user must check of a folder of brain volumes before preparing it."""

from typing import Any

from geovae import mri
from mlflow_projects import entry


def main(**settings: Any) -> None:
    """Print what is in the folder `source` beside what OASIS-1 has; the options are those of `geovae.mri.inspect`.

    Examples:
        python -m mlflow_projects.inspect --source FOLDER
    """
    text = mri.inspect(**settings)  # before a run is opened: a wrong folder leaves no trace
    with entry.open_run("inspect") as tracker:
        tracker.params({f"cfg.{key}": value for key, value in settings.items()})
        tracker.text("inspection.txt", text)
    print(text)


if __name__ == "__main__":
    entry.main(main)
