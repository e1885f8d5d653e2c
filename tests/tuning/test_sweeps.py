"""Sweeps and a study on a cluster with a server: schedulers, populations, sampler spaces, stop and resume."""

import re
import signal

import pytest
import yaml

from tests.tuning.conftest import until
from tests.tuning.exact import SPACE, check_finished, check_sweep, steps, training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def server(sqlite):
    return sqlite


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


def test_a_population_exchanges_weights_and_every_epoch_is_logged_once(sweep, options):
    space = {"search": {"training.learning_rate": {"log_uniform": [1e-6, 1e-2]}}}
    options["space"].write_text(yaml.safe_dump(space))
    options |= {"search": "random", "trials": 4, "seeds": 1, "training.epochs": 6}
    sweep.run(**options, scheduler="pbt", every=2)
    runs = sweep.runs("seed")
    assert sweep.states("seed") == {"FINISHED": 4}
    for run in runs:
        assert steps(sweep, run, "val/loss") == list(range(1, 7)), run.info.run_name
    changed = [run for run in runs if "changed" in run.data.tags]
    assert changed, "no member copied the weights of another"
    for run in changed:
        rates = sweep.client.get_metric_history(run.info.run_id, "changed/training.learning_rate")
        assert {point.step for point in rates} <= {2, 4, 6}
        assert float(run.data.params["cfg.training.learning_rate"]) not in {point.value for point in rates}


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


def test_a_sweep_that_is_stopped_leaves_nothing_running_and_resumes(sweep, options):
    fewer = {"model.beta": {"choice": [0.1], "when": {"model.name": "vae"}}}
    options["space"].write_text(yaml.safe_dump({"search": SPACE["search"] | fewer}, sort_keys=False))
    process = sweep.begin(**options | {"address": "local", "gpus": 0, "trials": 6})
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
    check_sweep(sweep, tried=6, failed=2)


def test_a_study_is_spread_over_the_nodes_and_repeated_by_nobody(sweep, options):
    flags = ["--name=ablation", "--size=ci", "--model.network=mlp"]
    there = [f"--address={options['address']}", f"--storage={options['storage']}"]
    first = sweep.module("study", *flags, *there)
    assert first.returncode == 0, first.stderr
    assert "6 runs, 6 of them finished before" in first.stdout
    experiment = sweep.client.get_experiment_by_name("geovae").experiment_id
    cells = sweep.client.search_runs([experiment], "tags.study = 'ablation' and tags.role = 'cell'")
    assert len(cells) == 6
    assert {run.info.status for run in cells} == {"FINISHED"}
    assert len({run.data.tags["ray.node"] for run in cells}) >= 2
    again = sweep.module("study", *flags)
    assert again.returncode == 0, again.stderr
    assert "6 runs, 6 of them finished before" in again.stdout
    assert len(sweep.client.search_runs([experiment], "tags.study = 'ablation' and tags.role = 'cell'")) == 6
