"""The tour: its script runs, and its notebook is of this script and shows what it makes."""

import json
import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def test_the_notebook_is_of_the_script_and_executed():
    cells = json.loads((DOCS / "tour.ipynb").read_text())["cells"]
    parts = re.split(r"^# %%( \[markdown\])?\n", (DOCS / "tour.py").read_text(), flags=re.MULTILINE)[1:]
    texts = [
        re.sub("^# ?", "", text, flags=re.MULTILINE) if kind else text
        for kind, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    assert [text.strip() for text in texts] == ["".join(cell["source"]) for cell in cells], "run `make notebook`"
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 4
    assert len([output for output in outputs if output.get("name") == "stdout"]) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of what samplers warn of, and figures that nobody shows
def test_the_script_runs_and_shows_what_it_says(monkeypatch, capsys):
    space = runpy.run_path(str(DOCS / "tour.py"))
    rows = re.findall(r"^(\w+) +distance +([\d.]+)", capsys.readouterr().out, re.MULTILINE)
    distances = {name: float(value) for name, value in rows}
    assert set(distances) == set(space["latents"])
    assert distances["fine_mixture"] < distances["mixture"] < distances["prior"]
    assert distances["riemannian"] < distances["prior"]
    lengths = {name: space["curve_lengths"](space["metric"], points).item() for name, points in space["curves"].items()}
    assert lengths["geodesic"] < lengths["straight line"] < lengths["Eq. 12"]
