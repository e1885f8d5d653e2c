"""`mlflow run . -e train`: one run: train a model, draw with its samplers, score, track."""

from pathlib import Path

from experiments.config import Config, Options, fingerprint, resolve
from experiments.describe import describe_run
from experiments.help import as_command
from experiments.judge import Result
from experiments.run import CHECKPOINT, load_plan, plan_run, run
from geovae.tracking import RUN, end_abandoned, is_alive, read_address
from mlflow_projects import entry


def main(options: Options, resume: str = "") -> None:
    """Run one configuration.

    Args:
        options: of the run.
        resume: run id or folder of an interrupted run.

    Examples:
        python -m mlflow_projects.train --dataset mnist_5k --model vae --model.latent_dim 8
        python -m mlflow_projects.train --resume RUN_ID
        python -m mlflow_projects.train --dataset mnist_5k --model wae --print_config
    """
    folder = _find_interrupted(resume) if resume else None
    # below the given options, since the file of the interrupted run holds every option
    resumed = {"config": str(folder / "config.yaml")} if folder else {}
    plan = load_plan(plan_run(resolve(resumed | options, prog="train")), resumed=folder)
    model, data = plan.config["model"]["name"], plan.config["data"]["name"]
    run_id = _continued(folder, plan.config) if folder else ""
    title = f"{model}-{data}-s{plan.config['seed']}"
    opened = entry.continue_run(run_id, {"resumed": run_id}, folder) if run_id else entry.open_run("train", title)
    with opened as tracker:
        output = describe_run("train", plan.config, tracker, folder)
        try:
            result = run(plan, output=output, tracker=tracker)
        except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
            if (output / CHECKPOINT).is_file():
                again = as_command("train", {"resume": output}, str(tracker.experiment_id))
                entry.complain("warning", f"stopped; to continue: {again}")
            raise
        print_result(result)
        print(f"see it: {entry.run_address(tracker)}")


def print_result(result: Result) -> None:
    """Print how the training ended, the score of each sampler, and where the model is."""
    if result.training is not None:
        print(f"trained: {result.training}")
    for name, scores in result.val_scores.items():
        print(f"{name:12s} {result.headline} {scores[result.headline]:.4g} against the validation images")
    print(f"model: {result.model_file}    run: {result.run_id}")


def _continued(folder: Path, config: Config) -> str:
    """Return the id of the run that was interrupted in a folder; "" if it was of another store or configuration.

    What its process left is delivered first, and may create the run.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    end_abandoned(folder, client.tracking_uri)
    try:
        run = client.get_run(read_address(folder / RUN)["run_id"])
    except (KeyError, MlflowException):
        return ""
    # parameters of a run never change: a resume with other options is a new run
    return str(run.info.run_id) if run.data.tags.get("config") == fingerprint(config) else ""


def _find_interrupted(name: str) -> Path:
    folders = [Path(name), entry.RUNS / name]
    for folder in folders:
        if (folder / CHECKPOINT).is_file() and (folder / "config.yaml").is_file():
            if is_alive(folder / "outbox"):
                raise PermissionError(f"the run in {folder} is not interrupted: its process is alive; stop it first")
            return folder
    raise FileNotFoundError(
        f"nothing to resume at {name!r}: expected {CHECKPOINT} and config.yaml in {' or '.join(map(str, folders))}"
    )


if __name__ == "__main__":
    entry.main(main, more_options=resolve)
