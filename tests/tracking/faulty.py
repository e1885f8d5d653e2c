"""MLflow's own server in a thread, behind a layer that can answer in its place as proxies and broken servers do."""

import json
import threading

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
    "500": ("500 Internal Server Error", "text/html", b"oops"),
    "503": ("503 Service Unavailable", "text/html", b"later"),
    "database": (
        "400 Bad Request",
        "application/json",
        json.dumps({"error_code": "BAD_REQUEST", "message": "(sqlite3.DatabaseError) malformed"}).encode(),
    ),
}


class FaultyServer:
    """A server; `fault` is the name of what it answers instead, `lose_answer` cuts the answer of the next call."""

    def __init__(self, folder, monkeypatch):
        from mlflow.server import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR, app, handlers
        from werkzeug.serving import make_server

        self.fault, self.lose_answer, self.answered = None, "", 0
        self._app = app.wsgi_app
        monkeypatch.setattr(handlers, "_tracking_store", None)
        monkeypatch.setenv(BACKEND_STORE_URI_ENV_VAR, f"sqlite:///{folder / 'faulty.db'}")
        monkeypatch.setenv(ARTIFACT_ROOT_ENV_VAR, str(folder / "artifacts"))
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __call__(self, environ, start_response):
        """Answer as a WSGI application."""
        if self.fault is None:
            answer = self._app(environ, start_response)
            if self.lose_answer and self.lose_answer in environ["PATH_INFO"]:
                self.lose_answer = ""
                b"".join(answer)
                raise ConnectionResetError
            return answer
        status, kind, body = FAULTS[self.fault]
        self.answered += 1
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
