"""What a user can cause is one sentence of at most 300 letters; a bug is none."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import mlflow
import pytest
import torch

from geovae.data.dataset import MissingData
from geovae.evaluation.inception import MissingWeights
from geovae.mri import InputProblems
from geovae.mri.problems import Problem
from mlflow_projects.sentences import LETTERS, describe, shorten


def raised(function, *args):
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def nest(depth: int = 0) -> int:
    return nest(depth + 1)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (raised(os.stat, "x" * 5000), "file name too long: xxx"),
        (raised(os.stat, "none"), "no such file or directory: none"),
        (OSError(28, "No space left on device", "a.npz"), "no space left on device: a.npz"),
        (ValueError("`n` must be 1"), "`n` must be 1"),
        (ValueError(), "ValueError"),
        (raised(float, 10**400), "a number is too large: int too large to convert to float"),
        (raised(nest), "the input is nested too deeply"),
        (MemoryError(), "the memory does not suffice: MemoryError; choose smaller sizes"),
        (raised(torch.empty, 1 << 62), "the memory does not suffice: "),
        (PermissionError(13, "Permission denied", "a"), "permission denied: a"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_user_can_cause(error, sentence):
    text = describe(error)
    assert sentence in text
    assert len(text) <= LETTERS
    assert "\n" not in text


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("a"), AttributeError("a"), RuntimeError("a bug")])
def test_a_bug_is_no_sentence(error):
    assert describe(error) == ""


def test_long_texts_keep_their_start_and_their_remedy():
    text = shorten(f"`name` must be short, got {'x' * 9000}; {'and ' * 200} choose another")
    assert len(text) <= LETTERS
    assert text.startswith("`name` must be short, got xxx")
    assert text.endswith("choose another")
    assert shorten("two\n lines") == "two lines"


def test_the_command_that_prepares_data_is_whole():
    text = describe(MissingData("x " * 400, "mnist"))
    command = "mlflow run . --env-manager local -e prepare -P dataset=mnist"
    assert text.endswith(f"`{command}`, which fetches the originals too")
    assert len(text) <= LETTERS


def test_the_command_that_fetches_the_weights_of_fid_is_whole():
    text = describe(MissingWeights("x " * 400))
    assert text.endswith("; `mlflow run . --env-manager local -e prepare -P dataset=inception` fetches them")
    assert len(text) <= LETTERS


def test_the_problems_of_a_cohort_are_listed_line_by_line():
    text = describe(InputProblems([Problem(f"s{i}", f"fault {i} " + "of many " * 20) for i in range(9)]))
    assert text.count("\n") == 9


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>hotel wifi</html>"), (404, b"nothing"), (403, b"no"), (500, b"oops"), (502, b"<html>")],
)
def test_a_server_that_is_no_tracking_server(status, body, monkeypatch):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://somebody:secret@127.0.0.1:{server.server_port}"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        text = describe(raised(mlflow.MlflowClient(uri).search_experiments))
    finally:
        mlflow.set_tracking_uri(before)
        server.shutdown()
        server.server_close()
    assert text.startswith("the tracking s")
    assert len(text) <= LETTERS
    assert "secret" not in text
