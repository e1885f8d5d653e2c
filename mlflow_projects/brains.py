"""`mlflow run . -e brains`: draw brains from a model trained on `oasis` or `oasis_volumes`: figures and NIfTI files."""

from pathlib import Path

from experiments.brains import read_cohort, show_brains
from geovae.checks import check_count
from mlflow_projects import entry
from mlflow_projects.generate import Drawing

DRAWING = Drawing("models:/geovae-oasis/latest", n=64, output=Path("generated_brains"))


def main(drawing: Drawing = DRAWING) -> None:
    """Draw brains from a model, as figures and NIfTI files.

    Examples:
        python -m mlflow_projects.brains --n 16 --output brains
    """
    check_count(low=2, n=drawing.n)
    saved = drawing.load()
    cohort = read_cohort(saved.meta["data"])
    with entry.open_run("brains") as tracker:
        tracker.params({f"cfg.{key}": value for key, value in vars(drawing).items()})
        output = drawing.output
        files = show_brains(saved, cohort, output, tracker, n=drawing.n, sampler=drawing.sampler, seed=drawing.seed)
        tracker.tags({"model_uri": drawing.model, "output": output.absolute()})
    print(f"{len(files)} brains: {files[0]} ... and {output}/geodesic.gif")


if __name__ == "__main__":
    entry.main(main)
