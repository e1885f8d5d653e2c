"""Several runs on one GPU, which Ray counts as a number: as many at once as fit, each with its part of the memory."""

import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import torch

from experiments.judge import Result
from geovae import devices
from geovae.devices import free_memory, limit_memory
from tests.tuning.conftest import environment, until
from tests.tuning.test_engine import Ended, Queue
from tuning.engine import Engine
from tuning.nodes import Resources, check_resources, configure_environment
from tuning.search import Listed
from tuning.worker import Worker, WorkerContext

CARD = 24 * 2**30


def stand_in(patch):
    """Stand in for a GPU of 24 GiB; return the limits that are set for it."""
    limits = []
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=CARD))
    patch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    return limits


@pytest.mark.parametrize("share", [0.25, 0.5, 0.1, 1 / 3])
def test_processes_with_their_contexts_fit_on_a_gpu_together(monkeypatch, share):
    limits = stand_in(monkeypatch)
    limit_memory(share)
    assert limits[0] * CARD + devices.CONTEXT == pytest.approx(share * CARD)


def test_a_small_share_keeps_half_and_whole_gpus_have_no_limit(monkeypatch):
    limits = stand_in(monkeypatch)
    for share in (0.02, 0, 1, 1.0):
        limit_memory(share)
    assert limits == [0.01]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    limit_memory(0.5)
    assert limits == [0.01]


def test_free_memory_is_what_the_card_and_the_own_share_leave(monkeypatch):
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**30)
    for free, share, expected in ((8, 0.25, 5), (3, 0.25, 3), (20, 1.0, 20)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free * 2**30, CARD))
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device, share=share: share)
        assert free_memory(torch.device("cuda")) == expected * 2**30


class Packed(Worker):
    """A worker whose runs wait until four have begun, and write down which GPU and how much of it they had."""

    def setup(self, config, context):
        with pytest.MonkeyPatch.context() as patch:
            self.limits = stand_in(patch)
            super().setup(config, context)

    def work(self):
        place, begun = Path(self._context.storage), time.time()
        (place / f"{self._task['name']}.begun").touch()
        until(lambda: len(list(place.glob("*.begun"))) >= 4, 120)
        time.sleep(1)  # a fifth that fits would begin
        report = {"gpus": ray.get_gpu_ids(), "limits": self.limits, "begun": begun, "ended": time.time()}
        (place / f"{self._task['name']}.json").write_text(json.dumps(report))
        return Result(None, place, "fd", {"prior": {"fd": 1.0}}, {})


class Folders(Queue):
    """A queue of trials with a folder each."""

    def task(self, trial):
        return {"folder": trial.name}


def run_five(storage):
    """Run five trials on a quarter of a GPU each; return how many at once Ray allows, and how they ended."""
    configure_environment()
    ray.init("local", num_cpus=8, num_gpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    resources = check_resources(Resources(gpus=0.25))
    runs = Ended()
    engine = Engine(runs, WorkerContext("", "0", storage), resources, worker=Packed)
    engine.run(Folders(Listed([{"a": i} for i in range(5)]), seeds=[1]))
    ray.shutdown()
    return resources.concurrency, list(runs.states.values())


@pytest.mark.slow  # Ray starts five processes
def test_four_runs_with_a_quarter_each_share_a_gpu_and_a_fifth_waits(tmp_path, monkeypatch):
    # in a process of its own: Ray reads whether it demands a token once, when it is imported, and an earlier test may
    # demand one
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        concurrency, states = pool.submit(run_five, str(tmp_path)).result()
    assert concurrency == 4
    assert states == ["FINISHED"] * 5
    reports = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert len(reports) == 5
    assert all(report["gpus"] == [0] and len(report["limits"]) == 1 for report in reports)
    assert sum(report["limits"][0] for report in reports[:4]) + 4 * devices.CONTEXT / CARD <= 1
    at_once = [sum(r["begun"] <= s["begun"] < r["ended"] for r in reports) for s in reports]
    assert max(at_once) == 4
