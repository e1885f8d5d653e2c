"""`mlflow run . -e import_checkpoint`: bring a trained model of the paper's published code into a run of ours."""

from experiments.config import Options, resolve
from experiments.describe import describe_run, track_data
from experiments.run import judge_trained, load_data, plan_run
from geovae.devices import choose_device
from geovae.models.published import read_published
from mlflow_projects import entry
from mlflow_projects.train import print_result


def main(path: str, options: Options) -> None:
    """Encode the training images of `--dataset` with a published model, draw, score, and track all of it.

    All other options are those of a run, such as `--data.root`: `python -m mlflow_projects.train --help` lists them.

    Args:
        path: the best_model.pt of the published code.
        options: of the run.

    Examples:
        python -m mlflow_projects.import_checkpoint --path best_model.pt --dataset mnist
    """
    published = read_published(path)
    # the published networks have the paper's width, whatever the data set's configuration sets
    options_of_model = {"name": published.name, "width": None, **published.options}
    model = {f"model.{key}": value for key, value in options_of_model.items()}
    plan = plan_run(resolve(model | options, prog="import_checkpoint"))
    config = plan.config
    splits = plan.splits or load_data(config["data"])
    if splits.image_shape != published.image_shape:
        shapes = f"{published.image_shape}, but {config['data']['name']} has {splits.image_shape}"
        raise ValueError(f"the model draws images of shape {shapes}")
    plan.judge.require(splits)
    plan.network.load_state_dict(published.weights)
    network = plan.network.eval().to(choose_device(config["device"]))
    with entry.open_run("import_checkpoint") as tracker:
        output = describe_run("import_checkpoint", config, tracker)
        tracker.tags({"imported_from": path.rpartition("/")[2]})
        track_data(tracker, config["data"]["name"], splits)
        print_result(judge_trained(plan.judge, network, splits, output, tracker))


if __name__ == "__main__":
    entry.main(main)
