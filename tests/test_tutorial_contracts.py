"""The model and the sampler of the tutorials keep the contracts that the tutorials promise, as registered members."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGIN = """
import re
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
