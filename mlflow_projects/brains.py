"""`mlflow run . -e brains`: draw brains from a model trained on `oasis` or `oasis_volumes`: figures and NIfTI files."""

from collections.abc import Sequence
from pathlib import Path

from experiments.brains import read_cohort, show_brains
from experiments.judge import check_known
from geovae.samplers import SAMPLERS
from geovae.saved_model import load_model
from mlflow_projects import entry
from mlflow_projects.registry.versions import fetch_model


def main(flags: Sequence[str]) -> None:
    """Draw `--n` brains from `--model` with `--sampler` and `--seed`, and write them into the new folder `--output`."""
    values, rest = entry.take_flags(flags, model="", sampler="", n="64", seed="0", output="generated_brains")
    entry.refuse(rest, list(values), main.__doc__ or "")
    n, seed = entry.whole("n", values["n"], 2), entry.whole("seed", values["seed"], 0)
    output = Path(values["output"])
    if output.exists():
        raise FileExistsError(f"{output} exists already: choose another output folder, nothing is overwritten")
    check_known("sampler", [values["sampler"]] if values["sampler"] else [], SAMPLERS)
    saved = load_model(fetch_model(values["model"]))
    cohort = read_cohort(saved.meta["data"])
    with entry.open_run("brains") as tracker:
        tracker.params({f"cfg.{key}": value for key, value in values.items()})
        output = entry.writable(output)
        files = show_brains(saved, cohort, output, tracker, n=n, sampler=values["sampler"], seed=seed)
        tracker.tags({"model_uri": values["model"], "output": output.absolute()})
    print(f"{len(files)} brains: {files[0]} ... and {output}/geodesic.gif")


if __name__ == "__main__":
    entry.main(main)
