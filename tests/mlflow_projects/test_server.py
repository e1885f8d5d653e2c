"""The server of docs/server.md, with runs made through it: what it refuses, what it keeps, and what its UI shows."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.screenshots import CHROMIUM, tour, visitor

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("flask_wtf", reason="the password needs mlflow[auth]")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PASSWORD = "pass-of-the-test-4711"
RUNS = "dataset: digits\nruns:\n  ae: {model.name: ae}\n  vae: {}\n"
SMALL = ["--data.augment=0", "--model.width=32", "--model.latent_dim=4", "--training.epochs=2", "--n_samples=64"]
SMALL += ["--images_every=1", "--extractor=pixels", "--scores=frechet,prd", "--concurrency=1"]
SMALL += [
    "--samplers=prior,mixture"
]  # two epochs leave codes so close that a random walk warns, and nothing is promoted
# one process for both: a second one would spend most of its time importing
COMPARE_AND_REPORT = (
    "import sys\nfrom mlflow_projects import entry, main, report\n"
    "entry.call(main.main, sys.argv[1:])\nentry.call(report.main, [])"
)


class Site:
    """A server on a free port, its folder, and a client with the password in its URI."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.uri = f"http://admin:{PASSWORD}@127.0.0.1:{self.port}"
        secrets = {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD, "MLFLOW_FLASK_SERVER_SECRET_KEY": "key-of-the-test"}
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [ROOT / "tools" / "server.sh"],
            cwd=folder,
            env=environment() | secrets | {"PORT": str(self.port)},
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while self.get("/health", password=None)[0] != 200:
            assert self.process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def get(self, path, *, password=PASSWORD, host=None, body=None):
        """Return the status and the body of a request whose path is sent as it is; with a `body` it is a POST."""
        headers = {"Host": host or f"127.0.0.1:{self.port}"}
        if password:
            headers["Authorization"] = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            if body is None:
                connection.request("GET", path, headers=headers)
            else:
                connection.request("POST", path, json.dumps(body), headers | {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    def python(self, program, *flags):
        return subprocess.run(
            [sys.executable, "-c", program, *flags],
            cwd=self.folder / "work",
            env=environment() | {"MLFLOW_TRACKING_URI": self.uri, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


def environment():
    # a test that called a program in this process may have left its experiment in the environment
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_EXPERIMENT_ID"}
    return inherited | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "work").mkdir()
    (folder / "work" / "runs.yaml").write_text(RUNS)
    made = Site(folder)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def said(site):
    """Everything that a comparison and a report said, made with the password in the tracking URI."""
    done = site.python(COMPARE_AND_REPORT, "--comparison=runs.yaml", *SMALL)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("missing", ["MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"])
def test_it_does_not_start_without_its_secrets(missing, tmp_path):
    secrets = {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD, "MLFLOW_FLASK_SERVER_SECRET_KEY": "x"}
    settings = environment() | secrets
    del settings[missing]
    done = subprocess.run([ROOT / "tools" / "server.sh"], cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"{missing}: set it to" in done.stderr
    assert not list(tmp_path.iterdir())


def test_everything_but_health_needs_the_password(site):
    listing = "/api/2.0/mlflow/experiments/search?max_results=5"
    assert site.get(listing)[0] == 200
    for path in (
        listing,
        "/",
        "/api/2.0/mlflow-artifacts/artifacts",
        "/ajax-api/2.0/mlflow/experiments/search?max_results=5",
    ):
        assert site.get(path, password=None)[0] == 401, path
        assert site.get(path, password="wrong")[0] == 401, path
    assert site.get("/health", password=None)[0] == 200


def test_it_listens_on_loopback_and_answers_to_its_own_names_only(site):
    import psutil

    listening = {
        c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == site.port
    }
    assert listening == {"127.0.0.1"}
    assert site.get("/api/2.0/mlflow/experiments/search?max_results=5", host="evil.example")[0] == 403


@pytest.mark.parametrize("dots", ["..", "%2e%2e", "%252e%252e", "..%2f..", "....//.."])
def test_an_artifact_path_cannot_escape(site, dots):
    for route in ("/api/2.0/mlflow-artifacts/artifacts/", "/get-artifact?run_uuid=1&path="):
        status, body = site.get(f"{route}{'/'.join([dots] * 8)}/etc/passwd")
        assert status >= 400
        assert b"root:" not in body


def test_the_password_is_nowhere_in_what_the_runs_left_or_said(site, said):
    files = [path for path in site.folder.rglob("*") if path.is_file()]
    assert len(files) > 40
    assert {"mlflow.db", "basic_auth.db", "report.html", "server.log"} <= {path.name for path in files}
    encoded = base64.b64encode(f"admin:{PASSWORD}".encode())
    for path in files:
        content = path.read_bytes()
        assert PASSWORD.encode() not in content, path
        assert encoded not in content, path
    assert PASSWORD not in said
    assert f"See it all: {site.address}/#/experiments/" in said


def test_a_user_promotes_once_the_guide_s_right_is_given(site, said):
    from mlflow.exceptions import MlflowException

    assert site.get("/api/2.0/mlflow/users/create", body={"username": "ada", "password": PASSWORD})[0] == 200
    ada = mlflow.MlflowClient(site.uri.replace("admin:", "ada:"))
    assert str(ada.get_model_version_by_alias("geovae", "champion").version) == "1"
    with pytest.raises(MlflowException, match="Permission denied") as refused:
        ada.set_registered_model_alias("geovae", "previous", "1")
    assert refused.value.get_http_status_code() == 403
    right = {"resource_type": "registered_model", "resource_id": "geovae", "permission": "EDIT"}
    assert site.get("/api/3.0/mlflow/users/permissions/grant", body={"username": "ada"} | right)[0] == 200
    ada.set_registered_model_alias("geovae", "previous", "1")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
def test_a_browser_sees_tables_charts_pictures_previews_and_the_registry(site, said, monkeypatch):
    """Every view waits for its own content, so a view that stays empty fails; the pictures are kept for people."""
    pytest.importorskip("playwright")
    client = mlflow.MlflowClient(site.uri)
    experiment = client.get_experiment_by_name("geovae").experiment_id
    folder = Path(os.environ.get("GEOVAE_SCREENSHOTS", ROOT / "screenshots"))
    credentials = {"username": "admin", "password": PASSWORD}
    with visitor(site.address, folder, experiment, http_credentials=credentials) as seen:
        tour(client, seen, experiment)
        assert seen.errors == []
    taken = {path.stem for path in folder.glob("*.png")}
    assert {"scores", "runs", "charts", "images", "child", "artifact_png", "artifact_html", "artifact_table"} <= taken
    assert {"registry", "version"} <= taken
