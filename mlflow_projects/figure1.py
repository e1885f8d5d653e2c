"""`mlflow run . -e figure1`: train a VAE with a 2-d latent space on rings and discs, and draw the paper's Fig. 1."""

from collections.abc import Sequence

from experiments.config import resolve
from experiments.figure1 import figure1
from experiments.run import run
from geovae.data import DATASETS
from geovae.samplers import RiemannianSampler
from geovae.saved_model import load_model
from mlflow_projects import entry


def main(flags: Sequence[str]) -> None:
    """Draw Fig. 1 into `--output` (figure1.png); all other flags are options of the run, `--model.beta` and so on."""
    values, rest = entry.take_flags(flags, output="figure1.png")
    config = entry.check_config(resolve(["--data.name=rings_discs", *rest], prog="figure1"))
    if config["model"]["latent_dim"] != 2:
        raise ValueError(f"Fig. 1 needs model.latent_dim 2, got {config['model']['latent_dim']}")
    with entry.open_run("figure1") as tracker:
        result = run(**config, output=entry.describe_run("figure1", config, tracker), tracker=tracker)
        saved = load_model(result.model_file)
        data = {key: value for key, value in config["data"].items() if key != "name"}
        labels = DATASETS[config["data"]["name"]](**data).train.labels
        metric = RiemannianSampler(**config["sampler"]["riemannian"]).fit(saved.codes).metric
        figure = figure1(saved.model, saved.codes.mu, labels, metric)
        figure.savefig(values["output"], dpi=110)
        tracker.figure("figures/figure1.png", figure)
    print(f"{values['output']}    run: {result.run_id}")


if __name__ == "__main__":
    entry.main(main)
