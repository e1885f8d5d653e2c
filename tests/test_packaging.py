"""pyproject.toml, the requirements, conda.yaml and MLproject tell one story; the wheel works alone."""

import ast
import email
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.isolated import ISOLATED

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read_pins(name: str) -> dict[str, str]:
    return dict(line.split("==") for line in (ROOT / name).read_text().splitlines() if "==" in line)


PINS = read_pins("requirements.txt")
FOR_TESTS = read_pins("requirements-dev.txt")
FOR_DOCS = read_pins("requirements-docs.txt")


def declared(*extras: str) -> list[Requirement]:
    named = [Requirement(name) for extra in extras for name in PROJECT["optional-dependencies"][extra]]
    return [requirement for requirement in named if requirement.name != PROJECT["name"]]


@pytest.mark.parametrize(
    ("requirement", "pins"),
    [
        *((Requirement(text), PINS) for text in PROJECT["dependencies"]),
        *((requirement, PINS) for requirement in declared("data", "mlflow", "ray", "mri", "server")),
        *((requirement, FOR_TESTS | PINS) for requirement in declared("test")),
        *((requirement, FOR_DOCS) for requirement in declared("docs")),
    ],
    ids=str,
)
def test_every_declared_dependency_is_pinned_within_its_range(requirement, pins):
    name = canonicalize_name(requirement.name)
    assert name in pins, f"{name} is not pinned: run `make requirements`"
    assert requirement.specifier.contains(pins[name])


ALONE = (
    ISOLATED
    + """
allow(sys.argv[1:])
import os
sys.path.insert(0, os.getcwd())
import pkgutil, torch, geovae
assert "/site/geovae/" in geovae.__file__, geovae.__file__
for module in pkgutil.iter_modules(geovae.__path__, "geovae."):
    __import__(module.name)
from geovae.codes import Codes
from geovae.models import build_model
model = build_model("vae", (1, 32, 32), network="mlp", width=8, latent_dim=2)
assert geovae.sample(model, torch.rand(40, 1, 32, 32), n=4).shape == (4, 1, 32, 32)
codes = Codes(torch.randn(400, 2), torch.full((400, 2), -3.0))  # enough to measure a draw's spread over clusters
for sampler in ("prior", "mixture", "fine_mixture", "local", "riemannian"):
    assert geovae.sample(codes, n=4, sampler=sampler).shape == (4, 2)
assert not {"mlflow", "ray", "pandas", "matplotlib", "PIL", "yaml", "jsonargparse", "tqdm"} & sys.modules.keys()
"""
)


@pytest.mark.slow
def test_the_wheel_samples_with_its_own_requirements_alone(tmp_path):
    """Every other package of this environment is out of reach."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "geovae", source / "geovae", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", tmp_path, source], check=True, cwd=tmp_path, capture_output=True)
    (wheel,) = tmp_path.glob("geovae-*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(tmp_path / "site")
    about = email.message_from_string(next((tmp_path / "site").glob("*.dist-info/METADATA")).read_text())
    assert set(about.get_all("Provides-Extra")) >= {"mlflow", "ray", "mri", "all"}
    needed = [Requirement(text) for text in about.get_all("Requires-Dist") if "extra" not in text]
    assert {requirement.name for requirement in needed} == {"torch", "numpy", "scipy", "safetensors", "scikit-learn"}
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", ALONE, *(requirement.name for requirement in needed)],
        cwd=tmp_path / "site",
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr


def test_no_distribution_is_pinned_twice():
    assert not PINS.keys() & (FOR_DOCS.keys() | FOR_TESTS.keys())
    assert not FOR_DOCS.keys() & FOR_TESTS.keys()


def test_what_runs_needs_no_test_tool():
    assert "pytest" in FOR_TESTS
    assert not {requirement.name for requirement in declared("test")} & PINS.keys()


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
    for name in [*PINS, *FOR_TESTS, *FOR_DOCS]:
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
