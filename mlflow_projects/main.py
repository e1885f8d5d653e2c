"""`mlflow run .`: several models on one data set, every sampler, one leaderboard, the best model registered."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments.compare import as_csv, as_figure, as_markdown, compare, for_ui, read_comparison
from experiments.config import CONFIGS, ConfigError
from experiments.judge import Result
from mlflow_projects import entry
from mlflow_projects.evidence import Rules, gather
from mlflow_projects.promotion import Candidate, promote, sentences
from mlflow_projects.registry import NAME, register
from mlflow_projects.views import scores_view

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
        tracker.text("leaderboard.csv", as_csv(board))
        tracker.figure("leaderboard.png", as_figure(board))
        tracker.tags({"mlflow.note.content": for_ui(table), "winner": winner})
        tracker.metrics({f"best/{result.headline}": board[0].val})
        print(table)
        best, second = board[0], next((row for row in board if row.run != winner), board[-1])
        print(
            f"{winner} with the {best.sampler} sampler wins: {best.headline} {best.val:.3f} against {second.val:.3f} "
            f"of the next model, {second.run} with the {second.sampler} sampler."
        )
        _register(result, values["register"])
        epoch, samplers = min(c["training"]["epochs"] for c in configs.values()), [row.sampler for row in board]
        view = partial(scores_view, headline=result.headline, samplers=list(dict.fromkeys(samplers)), epoch=epoch)
        entry.say_where(view, tracker)


def _register(result: Result, name: str) -> None:
    from mlflow import MlflowClient

    if result.run_id is None:
        print("Not registered: the tracking store does not answer. Once it does: python -m mlflow_projects.sync")
        return
    client, rules = MlflowClient(), Rules()
    run = client.get_run(result.run_id)
    evidence = gather(client, run, rules)
    version = register(result.run_id, evidence, name)
    verdict = promote(client, Candidate(run, evidence, version), rules, name=name)
    print(f"Registered as {name} version {version.version}.", *sentences(verdict, name), sep="\n")


if __name__ == "__main__":
    entry.main(main)
