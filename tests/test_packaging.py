"""pyproject.toml, requirements.txt, conda.yaml and MLproject tell one story."""

import ast
import importlib.util
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read_pins(name: str) -> dict[str, str]:
    return dict(line.split("==") for line in (ROOT / name).read_text().splitlines() if "==" in line)


PINS = read_pins("requirements.txt")
FOR_DOCS = read_pins("requirements-docs.txt")


def declared(*extras: str) -> list[Requirement]:
    names = [name for extra in extras for name in PROJECT["optional-dependencies"][extra]]
    return [Requirement(text) for text in names]


@pytest.mark.parametrize(
    ("requirement", "pins"),
    [
        *((Requirement(text), PINS) for text in PROJECT["dependencies"]),
        *((requirement, PINS) for requirement in declared("mri", "test")),
        *((requirement, FOR_DOCS) for requirement in declared("docs")),
    ],
    ids=str,
)
def test_every_declared_dependency_is_pinned_within_its_range(requirement, pins):
    name = canonicalize_name(requirement.name)
    assert name in pins, f"{name} is not pinned: run `make requirements`"
    assert requirement.specifier.contains(pins[name])


def test_no_distribution_is_pinned_twice():
    assert not PINS.keys() & FOR_DOCS.keys()


def test_requirements_are_what_the_generator_writes_here():
    spec = importlib.util.spec_from_file_location("requirements", ROOT / "tools" / "requirements.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if version("torch").partition("+")[0] != PINS["torch"]:
        pytest.skip("another environment than the pinned one")
    assert module.pinned().keys() == PINS.keys()


def test_conda_installs_the_pins_and_not_the_project():
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    pip = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert pip == ["-r requirements.txt"]
    python = next(item for item in environment["dependencies"] if str(item).startswith("python"))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python.partition("=")[2])
    assert "mlflow" in PINS


def test_no_pin_is_under_the_gpl():
    for name in [*PINS, *FOR_DOCS]:
        try:
            about = metadata(name)
        except PackageNotFoundError:
            assert name in FOR_DOCS, f"{name} is not installed: run `make setup`"
            continue  # `make docs` installs it
        named = " ".join([about.get("License-Expression") or "", *(about.get_all("Classifier") or [])])
        strict = named.replace("LGPL", "").replace("Lesser General Public", "")
        assert "GPL" not in strict, f"{name}: {named}"
        assert "GNU General Public License" not in strict, f"{name}: {named}"


def test_entry_points_name_programs_that_exist_and_quote_nothing():
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    for name, point in project["entry_points"].items():
        words = point["command"].split()
        assert words[:3] == ["exec", "python", "-m"]
        assert (ROOT / (words[3].replace(".", "/") + ".py")).is_file(), name
        assert "'" not in point["command"]
        for parameter, about in point.get("parameters", {}).items():
            assert f"{{{parameter}}}" in point["command"]
            assert about["type"] == "string"
            assert "default" in about


def test_every_program_of_an_entry_point_helps():
    """`python -m PROGRAM --help` is what the documentation promises for each entry point."""
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    for name, point in project["entry_points"].items():
        program = ROOT / (point["command"].split()[3].replace(".", "/") + ".py")
        tree = ast.parse(program.read_text())
        main = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
        assert ast.get_docstring(main), name


def test_ci_calls_the_two_commands():
    text = (ROOT / ".ci" / "run").read_text()
    assert "make lint" in text
    assert "make test" in text
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)
