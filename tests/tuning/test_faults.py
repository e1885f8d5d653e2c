"""A sweep survives dying workers, nodes and drivers and a server that hangs: the store is exactly right afterwards."""

import os
import signal
import time

import psutil
import pytest

from tests.tuning.conftest import until
from tests.tuning.exact import check_sweep, training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def restarted(sweep):
    """Return the number of restarts after a death, over all runs."""
    return sum(int(run.data.tags.get("restarts", 0)) for run in sweep.runs("seed"))


def busy(sweep, storage):
    """Return the process id of a worker that is training, None if there is none."""
    names = training(sweep, storage)
    tags = [run.data.tags for run in sweep.runs("seed") if run.info.run_name in names]
    found = [int(tag["ray.node"].split()[-1]) for tag in tags if "ray.node" in tag]
    return next((pid for pid in found if psutil.pid_exists(pid)), None)


def strike(sweep, storage, kill):
    """Kill the process or node of a run until a restart is counted: a run may have ended just before."""
    before = restarted(sweep)
    while restarted(sweep) == before:
        kill(until(lambda: busy(sweep, storage)))
        deadline = time.monotonic() + 60
        while restarted(sweep) == before and time.monotonic() < deadline:
            time.sleep(0.5)


def test_a_worker_a_node_and_the_driver_are_killed_and_the_server_is_away_for_a_minute(
    sweep, cluster, server, options, request
):
    if "postgres" in request.node.name:
        options["storage"] = f"file://{options['storage']}"  # reached as an object store is
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
    assert 1 <= len(ended_before) < 12

    process = sweep.start(resume=sweep.id, address=options["address"])
    until(lambda: sweep.states("seed")["FINISHED"] > len(ended_before))
    before = restarted(sweep)
    server.signal(signal.SIGSTOP)
    time.sleep(60)
    server.signal(signal.SIGCONT)
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    assert restarted(sweep) == before, "the pause restarted a run"
    assert "6 of 9 configurations judged, 3 failed" in text
    check_sweep(sweep)
    after = {run.info.run_id: run.info.end_time for run in sweep.runs("seed")}
    assert {run_id: after[run_id] for run_id in ended_before} == ended_before, "a finished run was repeated"
