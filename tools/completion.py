"""Print shell functions `geovae-train`, `geovae-sweep`, ... that complete their options.

In bash: `source <(python -m tools.completion bash)`. It needs shtab (`pip install shtab`).
"""

import importlib
import inspect
import sys

from experiments.config import add_run_options
from mlflow_projects.command_line import build_parser
from tools.mlproject import ENTRY_POINTS

PROGRAMS = (*ENTRY_POINTS, "sync", "reap")


def completion(name: str, shell: str) -> str:
    """Return the function of an entry point and its completion, as text for `shell`: bash, zsh or tcsh."""
    function = importlib.import_module(f"mlflow_projects.{name}").main
    parser = build_parser(function, prog=f"geovae-{name}")
    if "options" in inspect.signature(function).parameters and name != "prepare":  # whose options are the builder's
        own_names = parser.get_defaults().as_dict()  # `study` has a --data of its own
        for part in {"run", "data", "model", "training", "sampler"} - own_names.keys():
            add_run_options(parser, part=part)
    script: str = parser.get_completion_script(f"shtab-{shell}")
    program = f"python -m mlflow_projects.{name}"
    call = f"alias geovae-{name} '{program}'" if shell == "tcsh" else f'geovae-{name}() {{ {program} "$@"; }}'
    return f"{script}\n{call}\n"


if __name__ == "__main__":
    for program in PROGRAMS:
        sys.stdout.write(completion(program, *(sys.argv[1:] or ["bash"])))
