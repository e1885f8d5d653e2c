"""`mlflow run .`: several models on one data set, every sampler, one leaderboard, the best model registered.

The models are trained by the engine of sweeps, as many at once as the machine (or a cluster) has cores.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from experiments.config import Config, Options
from experiments.help import run_url
from experiments.judge import Result
from experiments.leaderboard import as_figure, as_json, as_markdown, rank_results, winner_sentence
from experiments.run import check_data, read_comparison
from experiments.tables import for_terminal, for_ui, link
from experiments.yaml_file import CONFIGS
from geovae.tracking import MlflowTracker
from mlflow_projects import entry
from mlflow_projects.cluster import Cluster, reached, run_tasks, settle
from mlflow_projects.registry.promotion import register_and_promote
from mlflow_projects.registry.versions import NAME
from mlflow_projects.registry.views import scores_view
from tuning.nodes import Resources
from tuning.plan import Failure, Task

COMPARISON = CONFIGS.relative_to(Path(__file__).parents[1]) / "demo.yaml"  # an MLproject runs in the project's folder


def main(options: Options, comparison: Path = COMPARISON, register: str = NAME, cluster: Cluster = Cluster()) -> None:
    """Compare several runs and register the model of the best.

    All other options are those of every run: `python -m mlflow_projects.train --help` lists them.

    Args:
        options: of every run.
        comparison: YAML file that lists the runs.
        register: name of the registered model.
        cluster: where the runs run.

    Examples:
        python -m mlflow_projects.main --concurrency 1 --cpus 4
        python -m mlflow_projects.main --dataset fashion_mnist --register fashion
    """
    configs = read_comparison(comparison, options, prog="main")
    if cluster.address == "local":  # elsewhere the data may be on the nodes alone
        check_data(configs.values())
    device = next(iter(configs.values()))["device"]
    with reached(cluster, device) as resources, entry.open_run("comparison") as tracker:
        tracker.tags({"role": "comparison"})
        results, failures = _run_all(configs, tracker, settle(cluster.storage, tracker), resources)
        pages = {name: run_url("", str(tracker.experiment_id), str(result.run_id)) for name, result in results.items()}
        board = rank_results(results, {name: link("run", page) for name, page in pages.items()})
        winner = board[0].contender.model
        result = results[winner]
        table = as_markdown(board)
        tracker.text("leaderboard.md", table)
        tracker.text("leaderboard.json", as_json(board))
        tracker.figure("leaderboard.png", as_figure(board))
        shown = json.dumps([{"path": "leaderboard.json", "type": "table"}])  # as `mlflow.log_table` says it to the UI
        tracker.tags({"mlflow.note.content": for_ui(table), "winner": winner, "mlflow.loggedArtifacts": shown})
        tracker.metrics({f"best/{result.headline}": board[0].mean(result.headline, "val")})
        print(for_terminal(table))
        print(winner_sentence(board))
        # after the leaderboard is printed: it is the result, whatever the registry does
        register_and_promote(str(result.run_id), register)
        entry.show_best(tracker, str(result.run_id))
        epoch = min(config["training"]["epochs"] for config in configs.values())
        samplers = list(dict.fromkeys(row.contender.sampler for row in board))
        view = partial(scores_view, headline=result.headline, samplers=samplers, epoch=epoch)
        entry.show_view(view, tracker)
        if failures:
            raise SystemExit(1)


def _run_all(
    configs: Mapping[str, Config], tracker: MlflowTracker, storage: str, resources: Resources
) -> tuple[dict[str, Result], dict[str, Failure]]:
    """Run every configuration; return the results, and why those failed that have none."""
    outcomes = run_tasks({name: Task(config) for name, config in configs.items()}, tracker, storage, resources)
    failures = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Failure)}
    if len(failures) == len(outcomes):
        raise SystemExit(1)  # the reasons are printed already
    return {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Result)}, failures


if __name__ == "__main__":
    entry.main(main)
