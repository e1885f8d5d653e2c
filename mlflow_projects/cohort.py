"""`mlflow run . -e cohort`: write a synthetic cohort of brains in the layout of OASIS-1, to try without data."""

from pathlib import Path
from typing import Any

from geovae import mri
from geovae.mri.synthetic.cohort import check_cohort
from mlflow_projects import entry


def main(folder: str = "data_folders/oasis_synthetic", **settings: Any) -> None:
    """Write brains deformed from the MNI152 template into `folder`, by `geovae.mri.write_cohort`.

    Args:
        folder: new folder of the cohort.
        **settings: of `geovae.mri.write_cohort`.

    Examples:
        python -m mlflow_projects.cohort --folder data_folders/synthetic --subjects 96 --workers 2
    """
    # `write_cohort` checks the same, but then a run would have been opened
    check_cohort(*(settings[name] for name in ("subjects", "repeats", "workers", "products", "voxel")))
    entry.check_writable(Path(folder))
    with entry.open_run("cohort") as tracker:
        tracker.params({f"cfg.{key}": value for key, value in {"folder": folder, **settings}.items()})
        truths = mri.write_cohort(folder, **settings)
        tracker.tags({"synthetic": "true"})
        tracker.artifact(Path(folder) / "ground_truth.csv")
    print(f"{len(truths)} synthetic sessions in {folder}; how each was made: ground_truth.csv")


if __name__ == "__main__":
    entry.main(main)
