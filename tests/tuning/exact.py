"""The exact content of the store after a sweep: runs, states, points of curves, images and files."""

import re
from collections import Counter
from pathlib import Path

EPOCHS = 20
SPACE = {
    "search": {
        "model.name": {"choice": ["vae", "ae"]},
        "model.beta": {"choice": [0.1, 1.0], "when": {"model.name": "vae"}},
        "training.learning_rate": {"choice": [0.001, 0.003, 1e12]},  # the last diverges
    }
}


def steps(sweep, run, key):
    return [point.step for point in sweep.client.get_metric_history(run.info.run_id, key)]


def pictures(files):
    """Count the images in the store by key and step."""
    found = [re.match(r"images/(.*?)[%+]step[%+](\d+)[%+].*\.png", file) for file in files]
    return Counter((match[1], int(match[2])) for match in found if match)


def check_finished(sweep, run, epochs=EPOCHS):
    """Check everything that a finished run of `epochs` epochs has logged."""
    for key in ("train/loss", "val/loss", "train/learning_rate", "time/epoch_seconds"):
        assert steps(sweep, run, key) == list(range(1, epochs + 1)), (run.info.run_name, key)
    files = sweep.files(run.info.run_id)
    expected = {("reconstructions", step) for step in (*range(1, epochs + 1, 10), epochs)} | {("samples~prior", 0)}
    assert pictures(files) == Counter(expected), run.info.run_name
    left = {"config.yaml", "environment.json", "model/model.safetensors"}
    left |= {"figures/latent_map.png"} | ({"figures/pullback.png"} if run.data.tags["model"] == "vae" else set())
    assert {file for file in files if not file.startswith("images/")} == left, run.info.run_name
    assert run.data.metrics["best/fd_pixels"] > 0
    assert run.data.params["cfg.training.epochs"] == str(epochs)


def check_sweep(sweep, tried=9, failed=3):
    """Check a whole sweep of `tried` configurations, 2 seeds each, of which `failed` diverge."""
    names = [f"c{number:04d}" for number in range(tried)]
    configurations = {run.info.run_name: run for run in sweep.runs("configuration")}
    seeds = sweep.runs("seed")
    assert sorted(configurations) == names
    assert sorted(run.info.run_name for run in seeds) == [f"{c}-s{seed}" for c in names for seed in (0, 1)]
    diverging = {n for n, c in configurations.items() if float(c.data.params["cfg.training.learning_rate"]) == 1e12}
    assert len(diverging) == failed
    for name, run in configurations.items():
        assert run.data.tags["mlflow.parentRunId"] == sweep.id
        assert run.info.status == ("FAILED" if name in diverging else "FINISHED"), name
        assert ("cfg.model.beta" in run.data.params) == (run.data.params["cfg.model.name"] == "vae")
    for run in seeds:
        parent = configurations[run.data.tags["configuration"]]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        if parent.info.run_name in diverging:
            assert run.info.status == "FAILED"
            assert "training diverged in epoch 1" in run.data.tags["failure"]
            assert sweep.files(run.info.run_id) == ["config.yaml", "environment.json"]
        else:
            assert run.info.status == "FINISHED", (run.info.run_name, run.info.status, run.data.tags.get("failure"))
            check_finished(sweep, run)
    own = sweep.client.get_run(sweep.id)
    assert own.info.status == "FINISHED"
    assert own.data.tags["best_configuration"] not in diverging
    files = {"sweep.yaml", "leaderboard.md", "leaderboard.csv", "parallel_coordinates.png", "best.yaml"}
    assert files <= set(sweep.files(sweep.id))


def training(sweep, storage):
    """Return the names of the runs that are training."""
    names = {run.info.run_name for run in sweep.runs("seed") if run.info.status == "RUNNING"}
    return [
        name for name in names if (Path(storage.removeprefix("file://")) / name / "checkpoint.safetensors").exists()
    ]
