"""Sweeps on real nodes and a real server through what may happen to them: afterwards the store is exactly right."""

import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import yaml

from tests.tuning.conftest import TINY, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

EPOCHS = 20
SPACE = {
    "search": {
        "model.name": {"choice": ["vae", "ae"]},
        "model.beta": {"choice": [0.1, 1.0], "when": {"model.name": "vae"}},
        "training.learning_rate": {"choice": [0.0003, 0.001, 0.003, 1e12]},  # the last diverges
    }
}
CONFIGURATIONS = [f"c{number:04d}" for number in range(12)]


@pytest.fixture
def options(cluster, tmp_path):
    """12 configurations, 3 of which fail, on 2 seeds each."""
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    storage = f"{tmp_path}/storage"
    on = {"address": cluster.address, "storage": storage, "training.epochs": EPOCHS, "data.augment": 0}
    return {**TINY, **on, "space": tmp_path / "space.yaml", "search": "grid", "trials": 12, "seeds": 2}


def steps(sweep, run, key):
    return [point.step for point in sweep.client.get_metric_history(run.info.run_id, key)]


def pictures(files):
    """Return how often the store has each image at each step."""
    found = [re.match(r"images/(.*?)[%+]step[%+](\d+)[%+].*\.png", file) for file in files]
    return Counter((match[1], int(match[2])) for match in found if match)


def check_finished(sweep, run, epochs=EPOCHS):
    """Hold a run that trained for so many epochs against all that it should have left."""
    for key in ("train/loss", "val/loss", "train/learning_rate", "time/epoch_seconds"):
        assert steps(sweep, run, key) == list(range(1, epochs + 1)), (run.info.run_name, key)
    files = sweep.files(run.info.run_id)
    expected = {("reconstructions", step) for step in (*range(1, epochs + 1, 10), epochs)} | {("samples~prior", 0)}
    assert pictures(files) == Counter(expected), run.info.run_name
    left = {"config.yaml", "environment.json", "model/model.safetensors", "checkpoints/checkpoint.safetensors"}
    left |= {"figures/latent_map.png"} | ({"figures/pullback.png"} if run.data.tags["model"] == "vae" else set())
    assert {file for file in files if not file.startswith("images/")} == left, run.info.run_name
    assert run.data.metrics["best/fd_pixels"] > 0
    assert run.data.params["cfg.training.epochs"] == str(epochs)


def check_sweep(sweep):
    """Hold the whole sweep against what it should be, whatever happened to it."""
    configurations = {run.info.run_name: run for run in sweep.runs("configuration")}
    seeds = sweep.runs("seed")
    assert sorted(configurations) == CONFIGURATIONS
    assert sorted(run.info.run_name for run in seeds) == [f"{c}-s{seed}" for c in CONFIGURATIONS for seed in (0, 1)]
    diverging = {n for n, c in configurations.items() if float(c.data.params["cfg.training.learning_rate"]) == 1e12}
    assert len(diverging) == 3
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
            assert run.info.status == "FINISHED", run.info.run_name
            check_finished(sweep, run)
    own = sweep.client.get_run(sweep.id)
    assert own.info.status == "FINISHED"
    assert own.data.tags["best_configuration"] not in diverging
    names = {"sweep.yaml", "leaderboard.md", "leaderboard.csv", "parallel_coordinates.png", "best.yaml"}
    assert names <= set(sweep.files(sweep.id))


def training(sweep, storage):
    """Return the runs that are in the middle of their training."""
    names = {run.info.run_name for run in sweep.runs("seed") if run.info.status == "RUNNING"}
    return [name for name in names if (Path(storage) / name / "checkpoint.safetensors").exists()]


def restarted(sweep):
    """Return how often runs have lost their process and went on."""
    return sum(int(run.data.tags.get("restarts", 0)) for run in sweep.runs("seed"))


def busy(sweep, storage):
    """Return the process id of a worker that is in the middle of a training."""
    names = training(sweep, storage)
    tags = [run.data.tags for run in sweep.runs("seed") if run.info.run_name in names]
    found = [int(tag["ray.node"].split()[-1]) for tag in tags if "ray.node" in tag]
    return next((pid for pid in found if psutil.pid_exists(pid)), None)


def strike(sweep, storage, kill):
    """Kill what a run works in, until it was not too late for a run to notice."""
    before = restarted(sweep)
    while restarted(sweep) == before:
        kill(until(lambda: busy(sweep, storage)))
        deadline = time.monotonic() + 20
        while restarted(sweep) == before and time.monotonic() < deadline:
            time.sleep(0.5)


def test_a_worker_a_node_and_the_driver_are_killed_and_the_server_is_away_for_a_minute(sweep, cluster, server, options):
    process = sweep.begin(**options)
    until(lambda: sweep.states("seed")["FINISHED"] >= 1)
    strike(sweep, options["storage"], lambda pid: os.kill(pid, signal.SIGKILL))

    def kill_node(pid):
        raylet = psutil.Process(pid).ppid()
        node = next(n for n in cluster.workers if n.all_processes["raylet"][0].process.pid == raylet)
        cluster.remove_node(node, allow_graceful=False)
        cluster.workers.remove(node)
        cluster.workers.append(cluster.add_node(num_cpus=1, num_gpus=1))

    strike(sweep, options["storage"], kill_node)

    until(lambda: busy(sweep, options["storage"]))
    process.kill()
    process.wait()
    process.stdout.close()
    assert sweep.states("seed")["RUNNING"] >= 1
    ended_before = {r.info.run_id: r.info.end_time for r in sweep.runs("seed") if r.info.status == "FINISHED"}
    assert 1 <= len(ended_before) < 18

    process = sweep.start(resume=sweep.id, address=options["address"])
    until(lambda: sweep.states("seed")["FINISHED"] > len(ended_before))
    before = restarted(sweep)
    server.signal(signal.SIGSTOP)
    time.sleep(60)
    server.signal(signal.SIGCONT)
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    assert restarted(sweep) == before, "the pause killed a run"
    assert "9 of 12 configurations judged, 3 failed" in text
    check_sweep(sweep)
    after = {run.info.run_id: run.info.end_time for run in sweep.runs("seed")}
    assert {run_id: after[run_id] for run_id in ended_before} == ended_before, "what had finished was repeated"


ONE_SERVER = pytest.mark.parametrize("server", ["sqlite"], indirect=True)


@ONE_SERVER
def test_the_scheduler_stops_what_lags_behind_and_another_sweep_starts_from_it(sweep, options):
    space = {"search": {"training.learning_rate": {"log_uniform": [1e-5, 1e-2]}}}
    options["space"].write_text(yaml.safe_dump(space))
    options |= {"search": "random", "trials": 6, "seeds": "1", "training.epochs": 9}
    sweep.run(**options, scheduler="asha", grace=1, halving=2)
    runs = sweep.runs("seed")
    assert sweep.states("seed") == {"FINISHED": 6}
    stopped = {run.info.run_name: run for run in runs if "stop_reason" in run.data.tags}
    assert 1 <= len(stopped) <= 5
    for run in runs:
        if run.info.run_name not in stopped:
            check_finished(sweep, run, 9)
            continue
        epoch = int(re.fullmatch(r"scheduler, at epoch (\d+)", run.data.tags["stop_reason"])[1])
        assert epoch in (1, 2, 4, 8)
        assert steps(sweep, run, "val/loss") == list(range(1, epoch + 1))
    judged = [run for run in sweep.runs("configuration") if "best/fd_pixels" in run.data.metrics]
    assert len(judged) == 6 - len(stopped)

    first, sweep.id = sweep.id, None
    options |= {"search": "optuna", "trials": 2, "storage": options["storage"] + "/second"}
    sweep.run(**options, **{"warm-start": first})
    assert sweep.id != first
    assert sweep.states("configuration") == {"FINISHED": 2}
    assert sweep.client.get_run(sweep.id).data.tags["role"] == "sweep"


@ONE_SERVER
def test_a_population_exchanges_weights_and_every_epoch_is_told_once(sweep, options):
    space = {"search": {"training.learning_rate": {"log_uniform": [1e-6, 1e-2]}}}
    options["space"].write_text(yaml.safe_dump(space))
    options |= {"search": "random", "trials": 4, "seeds": 1, "training.epochs": 8}
    sweep.run(**options, scheduler="pbt", every=2)
    runs = sweep.runs("seed")
    assert sweep.states("seed") == {"FINISHED": 4}
    for run in runs:
        assert steps(sweep, run, "val/loss") == list(range(1, 9)), run.info.run_name
    changed = [run for run in runs if "changed" in run.data.tags]
    assert changed, "nobody took over another's weights"
    for run in changed:
        rates = sweep.client.get_metric_history(run.info.run_id, "changed/training.learning_rate")
        assert {point.step for point in rates} <= {2, 4, 6, 8}
        assert float(run.data.params["cfg.training.learning_rate"]) not in {point.value for point in rates}


@ONE_SERVER
def test_samplers_are_searched_on_one_model_without_training(sweep, options):
    del options["samplers"]
    space = {"search": {"sampler.mixture.n_components": {"choice": [2, 4, 8]}}}
    options["space"].write_text(yaml.safe_dump(space))
    options |= {"search": "grid", "seeds": 1, "training.epochs": 3}
    sweep.run(**options, **{"samplers": "mixture"})
    assert sweep.states("run") == {"FINISHED": 1}
    assert sweep.states("seed") == {"FINISHED": 3}
    for run in sweep.runs("seed"):
        assert steps(sweep, run, "val/loss") == []
        assert "val_score/mixture/fd_pixels" in run.data.metrics


@ONE_SERVER
def test_a_sweep_that_is_told_to_stop_leaves_nothing_running_and_goes_on(sweep, options):
    process = sweep.begin(**options | {"address": "local", "gpus": 0})
    until(lambda: sweep.states("seed")["FINISHED"] >= 1 and training(sweep, options["storage"]))
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 143, text
    states = sweep.states("seed")
    assert states["KILLED"] >= 1
    assert states["RUNNING"] == 0
    assert sweep.states("configuration")["RUNNING"] == 0
    assert sweep.client.get_run(sweep.id).info.status == "KILLED"
    sweep.run(resume=sweep.id, address=options["address"])
    check_sweep(sweep)


@ONE_SERVER
def test_a_study_is_spread_over_the_nodes_and_repeated_by_nobody(sweep, options):
    flags = ["--name=ablation", "--size=ci", "--model.network=mlp"]
    there = [f"--address={options['address']}", f"--storage={options['storage']}"]
    first = sweep.module("study", *flags, *there)
    assert first.returncode == 0, first.stderr
    assert "4 runs, 4 of them finished before" in first.stdout
    experiment = sweep.client.get_experiment_by_name("geovae").experiment_id
    cells = sweep.client.search_runs([experiment], "tags.study = 'ablation' and tags.role = 'cell'")
    assert len(cells) == 4
    assert {run.info.status for run in cells} == {"FINISHED"}
    assert len({run.data.tags["ray.node"] for run in cells}) >= 2
    again = sweep.module("study", *flags)
    assert again.returncode == 0, again.stderr
    assert "4 runs, 4 of them finished before" in again.stdout
    assert len(sweep.client.search_runs([experiment], "tags.study = 'ablation' and tags.role = 'cell'")) == 4
