"""MLflow's own server in a thread, behind a layer that answers in its place as proxies and broken servers do."""

import json
import sqlite3
import threading
from contextlib import ExitStack, contextmanager

FAULTS = {  # name: status, content type, body
    "401": ("401 Unauthorized", "text/plain", b"You are not authenticated."),
    "403": ("403 Forbidden", "text/html", b"<html>no</html>"),
    "403 of MLflow": ("403 Forbidden", "application/json", b'{"error_code": "PERMISSION_DENIED", "message": "no"}'),
    "404": ("404 Not Found", "text/html", b"<html>nginx</html>"),
    "400 of a proxy": ("400 Bad Request", "text/html", b"<html>plain HTTP was sent to an HTTPS port</html>"),
    "foreign JSON": ("400 Bad Request", "application/json", b'{"error": "no"}'),
    "empty 200": ("200 OK", "application/json", b""),
    "{} 200": ("200 OK", "application/json", b"{}"),
    "HTML 200": ("200 OK", "text/html", b"<html>log in</html>"),
    "list 200": ("200 OK", "application/json", b"[]"),
    "redirect": ("302 Found", "text/html", b""),
    "429": ("429 Too Many Requests", "text/html", b"slower"),
    "500": ("500 Internal Server Error", "text/html", b"oops"),
    "502": ("502 Bad Gateway", "text/html", b"nobody behind"),
    "503": ("503 Service Unavailable", "text/html", b"later"),
    "database": (
        "400 Bad Request",
        "application/json",
        json.dumps({"error_code": "BAD_REQUEST", "message": "(sqlite3.DatabaseError) malformed"}).encode(),
    ),
}
CONNECTION = ["cut", "half an answer", "answer lost", "hang"]
LOGIN = "/login"


class FaultyServer:
    """A server; `fault` is the name of what it answers instead to everything, `strike` makes one request fail."""

    def __init__(self, folder, monkeypatch):
        import mlflow
        from mlflow.server import (
            ARTIFACT_ROOT_ENV_VAR,
            ARTIFACTS_DESTINATION_ENV_VAR,
            BACKEND_STORE_URI_ENV_VAR,
            SERVE_ARTIFACTS_ENV_VAR,
            app,
            handlers,
        )
        from werkzeug.serving import make_server

        self.fault, self.answered = None, 0
        self._strike, self._lifted = None, ExitStack()
        self.struck = threading.Event()  # the fault has begun
        self.run_id = ""  # of the run that faults delete
        self._app = app.wsgi_app
        self.database = folder / "faulty.db"
        self.store = f"sqlite:///{self.database}"
        mlflow.MlflowClient(self.store).search_experiments()  # makes the tables, for longer than a request may last
        for name in ("_tracking_store", "_artifact_repo"):
            monkeypatch.setattr(handlers, name, None)
        # a locked database is noticed at once
        monkeypatch.setenv(BACKEND_STORE_URI_ENV_VAR, f"{self.store}?timeout=0.2")
        monkeypatch.setenv(ARTIFACT_ROOT_ENV_VAR, "mlflow-artifacts:/")
        monkeypatch.setenv(ARTIFACTS_DESTINATION_ENV_VAR, str(folder / "artifacts"))
        monkeypatch.setenv(SERVE_ARTIFACTS_ENV_VAR, "true")
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def strike(self, fault, path, nth=1):
        """Let a fault begin at the nth request that writes to a path that ends so.

        A wrong answer is given once; a fault of the store stays until `lift`.
        """
        self._strike = [fault, path, nth]
        self.struck.clear()

    def lift(self):
        self._lifted.close()

    def __call__(self, environ, start_response):
        """Answer as a WSGI application."""
        if environ["PATH_INFO"] == LOGIN:
            return self._answer("HTML 200", start_response)
        fault = self._take(environ)
        if fault in STORE:
            self._lifted.enter_context(STORE[fault](self))
        if fault is not None:
            self.struck.set()
        fault = self.fault if fault in STORE else fault or self.fault
        if fault is None:
            return self._app(environ, start_response)
        if fault in FAULTS:
            return self._answer(fault, start_response)
        if fault == "answer lost":
            b"".join(self._app(environ, start_response))
        if fault == "hang":
            threading.Event().wait(2.0)
        if fault == "half an answer":
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "100")])
            return [b'{"run": {']
        raise ConnectionResetError

    def _take(self, environ):
        """Return the fault of the strike if it is this request's turn."""
        strike = self._strike
        if strike is None or environ["REQUEST_METHOD"] == "GET" or not environ["PATH_INFO"].endswith(strike[1]):
            return None
        strike[2] -= 1
        if strike[2]:
            return None
        self._strike = None
        return strike[0]

    def _answer(self, fault, start_response):
        status, kind, body = FAULTS[fault]
        self.answered += 1
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        start_response(status, headers + ([("Location", LOGIN)] if fault == "redirect" else []))
        return [body]

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def _locked(server):
    other = sqlite3.connect(server.database, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.close()


@contextmanager
def _gone(server):
    aside = server.database.with_suffix(".aside")
    server.database.rename(aside)
    yield
    aside.rename(server.database)


@contextmanager
def _damaged(server):
    with server.database.open("r+b") as file:
        header = file.read(100)
        file.seek(0)
        file.write(b"?" * 100)
    yield
    with server.database.open("r+b") as file:
        file.write(header)


@contextmanager
def _deleted(server, kind="run"):
    import mlflow

    client = mlflow.MlflowClient(server.store)
    found = server.run_id if kind == "run" else client.get_run(server.run_id).info.experiment_id
    getattr(client, f"delete_{kind}")(found)
    yield
    getattr(client, f"restore_{kind}")(found)


STORE = {
    "database locked": _locked,
    "database gone": _gone,
    "database damaged": _damaged,
    "run deleted": _deleted,
    "experiment deleted": lambda server: _deleted(server, "experiment"),
}
