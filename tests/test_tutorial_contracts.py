"""The model and the sampler of the tutorials keep the contracts that the tutorials promise, as registered members."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGIN = """
import re
import shutil
from pathlib import Path

code = re.search(r"```python\\n(.*?)```", Path({page!r}).read_text(), re.DOTALL)[1]
exec(compile(code, {page!r}, "exec"), {{"__name__": "tutorial"}})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "member", "files", "least"),
    [
        ("model", "laplace", ["models/test_models.py", "models/test_toy.py", "test_option_effects.py"], 12),
        ("sampler", "posterior", ["samplers/test_samplers.py", "test_option_effects.py"], 8),
    ],
)
def test_the_code_of_the_tutorial_passes_the_contract_tests(page, member, files, least, tmp_path):
    """In a process of its own: the tests' parameters are the registry's members at the time they are collected."""
    (tmp_path / "register_tutorial.py").write_text(PLUGIN.format(page=str(ROOT / f"docs/tutorials/{page}.md")))
    command = [sys.executable, "-m", "pytest", "-p", "register_tutorial", "-p", "no:cacheprovider"]
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    result = subprocess.run(
        [*command, *(f"tests/{file}" for file in files), "-k", member],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-5000:]
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= least


@pytest.mark.parametrize(
    ("page", "file", "registry"),
    [("model", "models/laplace", "MODELS"), ("sampler", "samplers/posterior", "SAMPLERS")],
)
def test_the_code_of_the_tutorial_works_as_a_file_of_its_room(page, file, registry, tmp_path):
    """Without the import of the registry and the last line, as the page says: no import may lead back to the room."""
    shutil.copytree(ROOT / "geovae", tmp_path / "geovae", ignore=shutil.ignore_patterns("__pycache__"))
    room, name = file.split("/")
    text = (ROOT / f"docs/tutorials/{page}.md").read_text()
    *lines, registration = re.search(r"```python\n(.*?)\n```", text, re.DOTALL)[1].splitlines()
    code = [line for line in lines if not line.endswith(f"import {registry}")]
    (tmp_path / f"geovae/{file}.py").write_text("\n".join(code))
    member = registration.rpartition(" ")[2]
    init = tmp_path / f"geovae/{room}/__init__.py"
    text = init.read_text()
    start = text.index("\nfrom geovae")
    text = f"{text[:start]}\nfrom geovae.{room}.{name} import {member}{text[start:]}"
    init.write_text(re.sub(rf"^({registry}: .* = {{)$", rf'\1\n    "{name}": {member},', text, flags=re.MULTILINE))
    check = f"from geovae.{room} import {registry}; print({registry}['{name}'].__module__)"
    result = subprocess.run([sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.strip() == f"geovae.{room}.{name}", result.stderr
