"""`mlflow run . -e brains`: draw brains from a model trained on `oasis` or `oasis_volumes`: figures and NIfTI files."""

from pathlib import Path

from experiments.brains import read_cohort, show_brains
from geovae.checks import check_choice, check_count
from geovae.samplers import SAMPLERS
from geovae.saved_model import load_model
from mlflow_projects import entry
from mlflow_projects.registry.versions import fetch_model


def main(
    model: str = "models:/geovae-oasis/latest",
    sampler: str = "",
    n: int = 64,
    seed: int = 0,
    output: Path = Path("generated_brains"),
) -> None:
    """Draw brains from a model, as figures and NIfTI files.

    Args:
        model: a model file, run id or models:/ URI.
        sampler: to draw with; by default the model's best.
        n: how many brains.
        seed: of the samples.
        output: new folder for the files.
    """
    check_count(low=2, n=n)
    check_count(low=0, seed=seed)
    if sampler:
        check_choice("sampler", sampler, SAMPLERS)
    entry.check_new(output)  # before a model is fetched
    saved = load_model(fetch_model(model))
    cohort = read_cohort(saved.meta["data"])
    with entry.open_run("brains") as tracker:
        used = {"model": model, "sampler": sampler, "n": n, "seed": seed, "output": output}
        tracker.params({f"cfg.{key}": value for key, value in used.items()})
        output = entry.writable(output)
        files = show_brains(saved, cohort, output, tracker, n=n, sampler=sampler, seed=seed)
        tracker.tags({"model_uri": model, "output": output.absolute()})
    print(f"{len(files)} brains: {files[0]} ... and {output}/geodesic.gif")


if __name__ == "__main__":
    entry.main(main)
