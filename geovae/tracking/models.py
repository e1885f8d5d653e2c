"""The model of a run as a logged model of MLflow, whose scores are linked to it and to the images they are of.

MLflow's page *Models* compares logged models by such scores. The model file stays where it is, an artifact of the run:
to MLflow the model is external until it is registered.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXTERNAL = "mlflow.model.isExternal"  # MLflow's own tag of a model that it has no files of


def log_model(client: "MlflowClient", run_id: str, name: str, contexts: Mapping[str, str]) -> str:
    """Make a logged model of the run, unless there is one, and link its scores; return its id.

    `contexts` has for each score the context (val, test) of the data that it is linked to.
    """
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    experiment, made = run.info.experiment_id, output_models(run)
    # one whose creation got no answer is found by its run alone
    found = made or [m.model_id for m in client.search_logged_models([experiment], f"source_run_id = '{run_id}'")]
    if found:
        model_id = found[0]
    else:
        model_id = client.create_logged_model(experiment, name, run_id, {EXTERNAL: "true"}, run.data.params).model_id
        client.finalize_logged_model(model_id, "READY")
    if not made:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    _link_scores(client, run, model_id, contexts)
    return model_id


def output_models(run: "Run") -> list[str]:
    """Return the ids of the logged models that a run has made."""
    return [output.model_id for output in run.outputs.model_outputs] if run.outputs else []


def show_model_of(client: "MlflowClient", run_id: str, maker_id: str) -> None:
    """Let a run show the model and the data sets of another, as a comparison does those of its best run."""
    from mlflow.entities import LoggedModelOutput

    maker = client.get_run(maker_id)
    if made := output_models(maker):
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0) for model_id in made])
    if maker.inputs and maker.inputs.dataset_inputs:
        client.log_inputs(run_id, maker.inputs.dataset_inputs)


def _link_scores(client: "MlflowClient", run: "Run", model_id: str, contexts: Mapping[str, str]) -> None:
    """Log points of the run again, with model and data, at the same step: its charts do not change."""
    from mlflow.entities import Metric

    inputs = {tag.value: item.dataset for item in run.inputs.dataset_inputs for tag in item.tags} if run.inputs else {}
    points: dict[str, Any] = {point.key: point for point in run.data._metric_objs}  # the public ones lack their steps
    done = {point.key for point in client.get_logged_model(model_id).metrics or ()}
    linked = []
    for key in [key for key in contexts if key in points and key not in done]:  # in order: the page's columns keep it
        point, data = points[key], inputs.get(contexts[key])
        about = {"dataset_name": data.name, "dataset_digest": data.digest} if data else {}
        # with a new timestamp: MLflow fails on a second point with the same one
        linked.append(Metric(key, point.value, point.timestamp + 1, point.step, model_id=model_id, **about))
    for start in range(0, len(linked), 500):  # MLflow takes 1,000 in one request
        client.log_batch(run.info.run_id, metrics=linked[start : start + 500])
