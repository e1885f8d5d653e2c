"""`mlflow run . -e cohort`: write a synthetic cohort of brains in the layout of OASIS-1, to try without data."""

from collections.abc import Sequence
from pathlib import Path

from geovae import mri
from geovae.mri.synthetic.cohort import check_cohort
from mlflow_projects import entry


def main(flags: Sequence[str]) -> None:
    """Write brains deformed from the MNI152 template; the flags are the options of `geovae.mri.write_cohort`."""
    options = entry.bind(mri.write_cohort, flags, "cohort")
    check_cohort(*(options[name] for name in ("subjects", "repeats", "workers", "products", "voxel")))
    with entry.open_run("cohort") as tracker:
        tracker.params({f"cfg.{key}": value for key, value in options.items()})
        truths = mri.write_cohort(**options)
        tracker.tags({"synthetic": "true"})
        tracker.artifact(Path(options["folder"]) / "ground_truth.csv")
    print(f"{len(truths)} synthetic sessions in {options['folder']}; how each was made: ground_truth.csv")


if __name__ == "__main__":
    entry.main(main)
