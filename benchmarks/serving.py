"""The registered model over HTTP: throughput, latency, errors and memory of `mlflow models serve` under steady load.

PYTHONPATH=. python benchmarks/serving.py [--model models:/geovae@champion] [--seconds 60] [--clients 4]
"""

import argparse
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

# what the clients ask for in turn; a draw needs no input, but MLflow's server wants the key
REQUESTS: tuple[dict[str, Any], ...] = (
    {"inputs": [], "params": {"n": 16, "sampler": "mixture", "format": "png"}},
    {"inputs": [], "params": {"n": 16, "sampler": "mixture"}},
    {"inputs": [], "params": {"n": 64, "sampler": "prior", "format": "png"}},
    {"inputs": [], "params": {"n": 1, "sampler": "mixture", "format": "png"}},
)


@dataclass
class Load:
    """What clients saw: seconds of every answer, answers that were no images, and the server's memory over time."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def row(self, duration: float) -> str:
        """Return requests per second, latencies, errors and memory as a row of a table."""
        p50, p99 = (1000 * float(np.quantile(self.seconds, q)) for q in (0.5, 0.99))
        quarter = max(1, len(self.megabytes) // 4)
        early, late = (float(np.median(part)) for part in (self.megabytes[:quarter], self.megabytes[-quarter:]))
        return (
            f"{len(self.seconds)} | {len(self.seconds) / duration:.1f} | {p50:.0f} | {p99:.0f} | {len(self.errors)} "
            f"| {early:.0f} | {late:.0f} | {100 * (late / early - 1):+.1f} %"
        )


@contextmanager
def served(model: str, tracking_uri: str, folder: str = "") -> Iterator[tuple[str, psutil.Process]]:
    """Serve a model in `folder`, by default one of its own, as a user would; yield its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", model, "--env-manager", "local"]
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"  # MLflow calls uvicorn by its name
    with tempfile.TemporaryDirectory() as own, open(f"{own}/log", "w+") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            cwd=folder or own,
            env=os.environ | {"MLFLOW_TRACKING_URI": tracking_uri, "PYTHONPATH": "", "PATH": path},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, process, log.name)
            yield address, psutil.Process(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(address: str, process: subprocess.Popen[bytes], log: str) -> None:
    deadline = time.monotonic() + 600  # the machine may have other work
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if urllib.request.urlopen(f"{address}/ping", timeout=1).status == 200:
                return
        except OSError:
            time.sleep(0.2)
    with open(log) as file:
        raise RuntimeError(f"the model is not served: {file.read()[-2000:]}")


def post(address: str, body: Any, timeout: float = 60.0) -> tuple[int, Any]:
    """Send a request (JSON, or bytes as they are); return the status and the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}/invocations", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def load(
    address: str, process: psutil.Process, requests: Sequence[Mapping[str, Any]], *, clients: int, seconds: float
) -> Load:
    """Let `clients` send `requests` in turn, each the next one as soon as it has its answer."""
    found, end = Load(), time.monotonic() + seconds

    def client(number: int) -> None:
        for i, body in enumerate(itertools.islice(itertools.cycle(requests), number, None)):
            if time.monotonic() > end:
                return
            seeded = {**body, "params": {**body["params"], "seed": 1000 * number + i}}
            started = time.perf_counter()
            try:
                status, answer = post(address, seeded)
                ok = status == 200 and len(answer["predictions"]) == body["params"]["n"]
                if not ok:
                    found.errors.append(f"{status}: {str(answer)[:200]}")
            except OSError as error:
                found.errors.append(str(error))
            found.seconds.append(time.perf_counter() - started)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        family = [process, *process.children(recursive=True)]
        found.megabytes.append(sum(p.memory_info().rss for p in family) / 2**20)
        time.sleep(min(0.5, seconds / 20))
    return found


def main() -> None:
    """Warm up, then load the server with each kind of request alone and with all of them."""
    import mlflow

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="models:/geovae@champion")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    with served(options.model, mlflow.get_tracking_uri()) as (address, process):
        load(address, process, REQUESTS, clients=options.clients, seconds=min(10.0, options.seconds))
        print("| requests | answers | 1/s | p50, ms | p99, ms | errors | MB early | MB late | growth |")
        print("|---|---|---|---|---|---|---|---|---|")
        kinds = {str(r["params"]): (options.seconds / 6, [r]) for r in REQUESTS}
        for name, (seconds, requests) in ({"all in turn": (options.seconds, list(REQUESTS))} | kinds).items():
            row = load(address, process, requests, clients=options.clients, seconds=seconds).row(seconds)
            print(f"| {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
