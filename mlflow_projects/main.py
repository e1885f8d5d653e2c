"""`mlflow run .`: several models on one data set, every sampler, one leaderboard, the best model registered."""

from collections.abc import Sequence
from pathlib import Path

from experiments.compare import as_figure, as_markdown, compare, read_comparison
from experiments.config import CONFIGS, ConfigError
from experiments.judge import Result
from mlflow_projects import entry
from mlflow_projects.registry import NAME, promote_if_better, register

COMPARISON = str(CONFIGS / "demo.yaml")


def main(flags: Sequence[str]) -> None:
    """Compare the runs of `--comparison FILE`, register the best as `--register NAME`; other flags apply to each."""
    values, rest = entry.take_flags(flags, comparison=COMPARISON, register=NAME)
    configs = read_comparison(Path(values["comparison"]), rest, prog="main")
    for name, config in configs.items():
        try:
            entry.check_config(config)
        except ValueError as error:
            raise ConfigError(f"run {name!r}: {error}") from error
    with entry.open_run("comparison") as tracker:
        tracker.tags({"role": "comparison"})
        board, winner, result = compare(configs, tracker, entry.describe_run)
        table = as_markdown(board)
        tracker.text("leaderboard.md", table)
        tracker.figure("leaderboard.png", as_figure(board))
        tracker.tags({"mlflow.note.content": table, "winner": winner})
        tracker.metrics({f"best/{result.headline}": board[0].val})
        print(table)
        best, second = board[0], next((row for row in board if row.run != winner), board[-1])
        print(
            f"{winner} with the {best.sampler} sampler wins: {best.headline} {best.val:.3f} against {second.val:.3f} "
            f"of the next model, {second.run} with the {second.sampler} sampler."
        )
        _register(result, values["register"])
        experiment = tracker.experiment_id
    print(f"See it all: make ui    (mlflow server --backend-store-uri {entry.tracking_uri()} --host 127.0.0.1)")
    print(f"and open http://127.0.0.1:5000/#/experiments/{experiment}/runs?workflowType=machine_learning")


def _register(result: Result, name: str) -> None:
    if result.run_id is None:
        print("Not registered: the tracking store does not answer. Once it does: python -m mlflow_projects.sync")
        return
    candidate = register(result, name)
    print(f"Registered as {name} version {candidate.version}; {promote_if_better(candidate)}")


if __name__ == "__main__":
    entry.main(main)
