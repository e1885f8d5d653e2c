"""Dockerfile, compose.yaml, the matrix of continuous integration: what can be checked without a container engine."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import yaml

from experiments.config import parse_options, resolve
from mlflow_projects import main, sweep
from mlflow_projects.command_line import bind

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]


def accepted(module, flags):
    """Return the arguments that an entry point would be called with."""
    arguments = bind(module.main, parse_options(flags))
    resolve(arguments["options"])
    return arguments


def test_the_image_copies_what_its_ignore_file_lets_through():
    copied = {word for name, rest in INSTRUCTIONS if name == "COPY" for word in rest.split()[:-1]}
    let_through = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_the_demo_as_a_user_in_its_volume():
    settings = dict(INSTRUCTIONS)
    command = json.loads(settings["CMD"])
    assert command[:3] == ["python", "-m", "mlflow_projects.main"]
    arguments = accepted(main, command[3:])
    assert (ROOT / arguments["comparison"].relative_to("/geovae")).is_file()
    assert settings["USER"] != "root"
    assert settings["WORKDIR"] == settings["VOLUME"] == "/data"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert settings["FROM"].removeprefix("python:").removesuffix("-slim") in project["requires-python"]


def test_services_name_one_another():
    services, volumes = COMPOSE["services"], COMPOSE["volumes"]
    for service in services.values():
        assert service.get("depends_on", {}).keys() <= services.keys()
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= volumes.keys()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert all("healthcheck" in services[name] for name in service.get("depends_on", {}))
    assert services["sweep"]["environment"]["MLFLOW_TRACKING_URI"] == "http://server:5000"
    assert not re.search(r"PASSWORD: (?!\$\{)", (ROOT / "compose.yaml").read_text()), "a password in the file"


def test_the_server_s_command_is_one_that_mlflow_accepts():
    from mlflow.cli import cli

    words = shlex.split(COMPOSE["services"]["server"]["command"])
    assert words[:2] == ["mlflow", "server"]
    with cli.commands["server"].make_context("server", words[2:]) as context:
        given = context.params
    assert "server:5000" in given["allowed_hosts"].split(",")  # whom the sweep asks for
    assert (given["host"], given["artifacts_destination"]) == ("0.0.0.0", "/data/artifacts")
    assert "MLFLOW_BACKEND_STORE_URI" in COMPOSE["services"]["server"]["environment"]


def test_the_sweep_s_command_is_one_that_the_entry_point_accepts():
    words = shlex.split(COMPOSE["services"]["sweep"]["command"])
    assert words[:3] == ["python", "-m", "mlflow_projects.sweep"]
    assert accepted(sweep, words[3:])["cluster"].address == "local"


def test_the_matrix_has_the_versions_of_the_metadata():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yaml").read_text())
    tested = workflow["jobs"]["fast"]["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    assert [name.removeprefix(prefix) for name in project["classifiers"] if name.startswith(prefix)] == tested
    assert project["requires-python"] == f">={tested[0]},<3.{int(tested[-1].split('.')[1]) + 1}"
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert "make test PYTHON=python" in commands
    assert ".ci/run" in commands
