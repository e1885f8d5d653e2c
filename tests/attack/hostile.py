"""Seeded hostile requests to a served model: no answer shows a stack trace, none changes a later one, nothing grows."""

import base64
import io
import json
import random
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from benchmarks.serving import post
from tests.attack.mutations import mutate_bytes, mutate_tree

SHAPE = (8, 8, 1)
TRACES = (b"Traceback", b"stack_trace", b'File "', b"File \\", b"site-packages", b"/registered_model.py")
JSON = "application/json"
TYPES = [JSON, "text/csv", "application/vnd.apache.parquet", f"{JSON}; charset=latin-1", f"{JSON};x", "", "\x7f", "a/b"]
GOOD = {"inputs": [], "params": {"n": 2, "seed": 1, "sampler": "mixture"}}


def png(width: int = 8, height: int = 8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width), np.uint8)).save(file, "PNG")
    return file.getvalue()


def text(image: bytes) -> str:
    return base64.b64encode(image).decode()


def bomb() -> bytes:
    """Return a PNG whose header speaks of 50,000 x 50,000 pixels."""
    return png()[:16] + (50_000).to_bytes(4, "big") * 2 + png()[24:]


def bodies() -> list[object]:
    """Return sound requests, which are mutated, and some that are hostile as they are."""
    images, latents = np.zeros((2, *SHAPE), int).tolist(), [[0.5, 1.0], [0.0, 0.0]]
    asked = [GOOD | {"params": {"n": n, "sampler": name, "labels": [1]}} for n, name in ((3, "mixture"), (2, "local"))]
    asked += [{"inputs": images, "params": {"mode": mode}} for mode in ("encode", "reconstruct", "interpolate")]
    asked += [{"inputs": latents, "params": {"mode": "decode", "format": "png"}}, {"instances": latents}]
    asked += [{"inputs": [text(png())] * 2, "params": {"mode": "encode"}}, {"inputs": [text(bomb())]}]
    asked += [{"dataframe_split": {"columns": ["a", "b"], "data": latents}, "params": {"mode": "decode"}}]
    asked += [{"dataframe_records": [{"a": 1, "b": 2}]}, {"messages": [{"role": "user", "content": "x"}]}]
    return [*asked, {"inputs": [], "params": {"mode": "interpolate", "n": 10**9}}, {"inputs": [[float("nan")] * 2] * 3}]


def packet(chance: random.Random) -> tuple[str, dict[str, str], bytes]:
    """Return what the case is, and the headers and body of a request."""
    kind = chance.choice(["tree", "tree", "tree", "bytes", "bytes", "type", "png", "deep", "long", "garbage"])
    body = chance.choice(bodies())
    if kind == "tree":
        for _ in range(chance.randint(1, 3)):
            body = mutate_tree(body, chance)
    elif kind == "png":
        body = {"inputs": [text(mutate_bytes(png(), chance)[1])] * 2, "params": {"mode": "encode"}}
    data = json.dumps(body, default=str).encode()
    if kind in ("bytes", "type"):
        data = mutate_bytes(data, chance)[1]
    elif kind == "deep":
        data = b'{"inputs": ' + b"[" * 10 ** chance.randint(2, 5)
        data += b"]" * data.count(b"[") + b"}"
    elif kind == "long":
        data = json.dumps({"inputs": [["9" * 10 ** chance.randint(3, 6)]], "params": {"sampler": "x" * 10**5}}).encode()
    elif kind == "garbage":
        data = chance.randbytes(chance.randint(0, 5000))
    return kind, {"Content-Type": chance.choice(TYPES)} if kind in ("type", "garbage") else {"Content-Type": JSON}, data


RAW = [
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /invocations HTTP/1.1\r\nHost: x\r\n\r\n",  # without a content type
    b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{",
    b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
    b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"DELETE /invocations HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /invocations?%00=%ff HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 100_000 + b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
]


@dataclass
class Outcome:
    """What an attack met: answers by status, what they must not show, and the server's resources over time."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)

    def add(self, case: str, status: object, answer: bytes) -> None:
        self.statuses[f"{status} {case.partition(': ')[2]}" if f"{status}" >= "500" else f"{status}"] += 1
        if shown := [trace for trace in TRACES if trace in answer]:
            self.faults.append(f"{case}: {status} shows {shown[0]!r}: {answer[:300]!r}")

    def growth(self) -> float:
        """Return how many MiB the last quarter has above the second, when all has been used once."""
        quarter = max(1, len(self.megabytes) // 4)
        return float(np.median(self.megabytes[-quarter:]) - np.median(self.megabytes[quarter : 2 * quarter]))

    def __str__(self) -> str:
        sizes, handles = ([float(np.median(x)) for x in np.array_split(y, 4)] for y in (self.megabytes, self.handles))
        return f"{sum(self.statuses.values())} requests {dict(self.statuses)}; quarters: {sizes} MiB, {handles} handles"


def ask(address: str, number: int, found: Outcome) -> None:
    """Send the request `number`, and keep what it met."""
    chance, where = random.Random(f"hostile {number}"), urlsplit(address)
    if chance.random() < 0.1:
        raw = chance.choice(RAW)
        with suppress(OSError), socket.create_connection((where.hostname, where.port), timeout=0.5) as connection:
            connection.sendall(raw)
            answer = connection.recv(65_536)
            found.add(f"case {number}: {raw[:70]!r}", answer[9:12].decode(errors="replace") or "closed", answer)
            return
        found.statuses["silence"] += 1  # the server waits for the rest
        return
    kind, headers, body = packet(chance)
    connection = HTTPConnection(str(where.hostname), where.port, timeout=100)
    try:
        connection.request("POST", "/invocations", body, headers)
        answer = connection.getresponse()
        found.add(f"case {number}: {kind}", answer.status, answer.read())
    except (OSError, HTTPException) as error:
        found.statuses[type(error).__name__] += 1
    finally:
        connection.close()


def attack(address: str, process, seconds: float, clients: int = 2) -> Outcome:
    """Send hostile requests from several clients, and look whether a good one is answered as before."""
    found, end, expected = Outcome(), time.monotonic() + seconds, post(address, GOOD)

    def client(first: int) -> None:
        number = first
        while time.monotonic() < end:
            ask(address, number, found)
            number += clients
            if number % 50 < clients and (answer := post(address, GOOD)) != expected:
                found.faults.append(f"after case {number}: a good request got {str(answer)[:200]}")

    threads = [threading.Thread(target=client, args=(first,)) for first in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        family = [process, *process.children(recursive=True)]
        found.megabytes.append(sum(one.memory_info().rss for one in family) / 2**20)
        found.handles.append(sum(one.num_fds() + one.num_threads() for one in family))
        time.sleep(min(2.0, seconds / 40))
    return found
