"""`mlflow run . -e train`: one run: train a model, draw with its samplers, score, track."""

from collections.abc import Sequence
from pathlib import Path

from experiments.config import resolve
from experiments.run import CHECKPOINT, run
from mlflow_projects import entry


def main(flags: Sequence[str]) -> None:
    """Run one configuration; `--resume` takes the run id or the folder of a run that did not end."""
    values, rest = entry.take_flags(flags, resume="")
    folder = _interrupted(values["resume"]) if values["resume"] else None
    if folder is not None:
        rest = ["--config", str(folder / "config.yaml"), *rest]
    config = entry.check_config(resolve(rest, prog="train"))
    title = f"{config['model']['name']}-{config['data']['name']}-s{config['seed']}"
    with entry.open_run("train", title) as tracker:
        output = entry.describe_run("train", config, tracker, folder)
        result = run(**config, output=output, tracker=tracker)
    for name, scores in result.val_scores.items():
        print(f"{name:12s} {result.headline} {scores[result.headline]:.4g} against the validation images")
    print(f"model: {result.model_file}    run: {result.run_id}")


def _interrupted(name: str) -> Path:
    folders = [Path(name), entry.RUNS / name]
    for folder in folders:
        if (folder / CHECKPOINT).is_file() and (folder / "config.yaml").is_file():
            return folder
    raise FileNotFoundError(
        f"nothing to resume at {name!r}: expected {CHECKPOINT} and config.yaml in {' or '.join(map(str, folders))}"
    )


if __name__ == "__main__":
    entry.main(main)
