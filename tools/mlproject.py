"""Write MLproject from the signatures of the entry points: `python -m tools.mlproject`, or `make mlproject`."""

import importlib
import json
import textwrap
from pathlib import Path
from typing import Any

from experiments.help import in_text
from mlflow_projects.command_line import build_parser

ROOT = Path(__file__).parents[1]
ENTRY_POINTS = (
    "main",
    "train",
    "generate",
    "evaluate",
    "report",
    "promote",
    "prepare",
    "inspect",
    "cohort",
    "brains",
    "import_checkpoint",
    "adopt",
    "sweep",
    "study",
)
ALL = ("dataset", "model", "config", "seed", "device")
OF_RUNS = {  # the options of runs that users set most, for those entry points that pass them on
    "main": ("dataset", "seed", "device"),
    "train": ALL,
    "import_checkpoint": ("dataset", "seed", "device"),
    "adopt": ("dataset", "seed", "device"),
    "sweep": ALL,
    "study": ("device",),
}
HEAD = """\
# Made by `make mlproject` from the signatures in mlflow_projects/: change those, not this file.
# An empty value leaves the choice to the program. Options that are not listed here are passed on:
# -P model.latent_dim=8 reaches the program as --model.latent_dim 8; `python -m mlflow_projects.train --help` lists all.
# All values are strings here because MLflow checks no other type: each program checks its own, before anything is made.
name: geovae

conda_env: conda.yaml

entry_points:
"""


def parameters(name: str) -> dict[str, str]:
    """Return the options of an entry point with their defaults as text; those of a run are left open."""
    function = importlib.import_module(f"mlflow_projects.{name}").main
    defaults = build_parser(function).get_defaults().as_dict()
    return dict.fromkeys(OF_RUNS.get(name, ()), "") | {option: as_text(value) for option, value in defaults.items()}


def as_text(value: Any) -> str:
    """Return a default as a command line writes it, with paths of the project relative to it."""
    return in_text(value.relative_to(ROOT) if isinstance(value, Path) and value.is_relative_to(ROOT) else value)


def mlproject() -> str:
    """Return the content of MLproject."""
    lines = [HEAD]
    for name in ENTRY_POINTS:
        options = parameters(name)
        command = " ".join([f"exec python -m mlflow_projects.{name}", *(f"--{o} {{{o}}}" for o in options)])
        folded = textwrap.wrap(command, 110, break_long_words=False, break_on_hyphens=False)
        lines += [f"  {name}:\n    parameters:\n"]
        lines += [f"      {o}: {{type: string, default: {json.dumps(value)}}}\n" for o, value in options.items()]
        lines += ["    command: >-\n", *(f"      {line}\n" for line in folded)]
    return "".join(lines)


if __name__ == "__main__":
    (ROOT / "MLproject").write_text(mlproject())
