"""A small host of files on this machine: with ranges as real ones, and with the faults that a test asks for."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Host:
    """What the host has, does and has seen.

    `faults` are used up one a request: a status, or "cut" (ends within the body), "early" (the same without a length),
    "stop" (gives nothing), "restart" (ignores the range and ends within the body), "whole" (ignores the range),
    "page" (HTML instead of the file), "elsewhere" (another range than the one asked for).
    """

    def __init__(self, address):
        self.address = address
        self.files = {}
        self.faults = []
        self.requests = []

    def put(self, name, content):
        self.files["/" + name] = content


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET."""

    def do_GET(self):
        host = self.server.host
        fault = host.faults.pop(0) if host.faults else None
        host.requests.append((self.path, self.headers.get("Range")))
        content = host.files.get(self.path.partition("?")[0])
        if isinstance(fault, int) or content is None:
            return self.answer(fault or 404, b"")
        if fault == "page":
            return self.answer(200, b"<html>too many users</html>", {"Content-Type": "text/html; charset=utf-8"})
        if not self.headers.get("Range") or fault in ("whole", "restart"):
            return self.answer(200, content, fault=fault)
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        start -= fault == "elsewhere"
        where = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return self.answer(206, content[start:], where, fault=fault)

    def answer(self, code, body, headers=None, *, fault=None):
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if fault != "early":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = {"cut": 0.5, "early": 0.5, "restart": 0.5, "stop": 0}.get(fault, 1)
        self.wfile.write(body[: int(len(body) * sent)])
        self.close_connection = True

    def log_message(self, *_):
        """Keep quiet."""


@contextmanager
def serve() -> Iterator[Host]:
    """Run a host for the time of the block."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.host = Host(f"http://127.0.0.1:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
