"""Nobody but its own process uses the Ray that a sweep or a study starts on one machine."""

import os
import subprocess
import sys

import pytest

from tuning.nodes import ClusterError, connected

START = """
import os, sys, ray
from tuning.nodes import connected
with connected("local"):
    task = ray.remote(num_cpus=0)(lambda: "works")
    assert ray.get(task.remote(), timeout=60) == "works"
    print(ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"], flush=True)
    sys.stdin.readline()
"""
INTRUDE = """
import os, sys, ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
print("ran as", ray.get(ray.remote(num_cpus=0)(lambda: os.getuid()).remote(), timeout=20))
"""


def intrude(address, environment):
    command = [sys.executable, "-c", INTRUDE, address]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow  # Ray tries for half a minute to be let in
def test_a_process_without_the_token_runs_nothing():
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    clean |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "5", "RAY_USAGE_STATS_ENABLED": "0"}
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", START], env=clean, **options) as process:
        address, token = process.stdout.readline().split()
        try:
            assert not address.startswith("127."), address
            for mode in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
                tried = intrude(address, clean | mode)
                assert tried.returncode != 0
                assert "ran as" not in tried.stdout
                assert "uthenticat" in tried.stderr, tried.stderr[-2000:]
            own = intrude(address, clean | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token})
            assert "ran as" in own.stdout, own.stderr[-2000:]  # it is the token that keeps the others out
        finally:
            process.communicate("\n", timeout=60)
    assert process.returncode == 0


@pytest.mark.slow
def test_a_folder_whose_path_is_too_long_for_ray_s_sockets_is_named_with_the_remedy(tmp_path):
    start = "from tuning.nodes import connected\nwith connected('local'): pass"
    environment = os.environ | {"RAY_TMPDIR": str(tmp_path / ("x" * 90))}
    options = {"env": environment, "capture_output": True, "text": True, "timeout": 120, "check": False}
    tried = subprocess.run([sys.executable, "-c", start], **options)
    assert "ClusterError: no Ray cluster at address=local: " in tried.stderr
    assert tried.stderr.strip().endswith("; set RAY_TMPDIR to a folder with a shorter path")


def test_a_machine_too_busy_to_start_ray_is_one_sentence(monkeypatch):
    def init(*args, **options):
        raise Exception("The current node timed out during startup.\nMore.")  # as Ray does

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    with (
        pytest.raises(ClusterError, match="^no Ray cluster at address=local: The current node timed out"),
        connected("local"),
    ):
        pass
