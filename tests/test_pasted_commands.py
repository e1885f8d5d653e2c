"""Commands that the documentation shows: pasted, each is accepted by the entry point that it names."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from experiments.config import CONFIGS, parse_options, resolve
from experiments.studies.plan import read_study
from mlflow_projects.command_line import bind
from mlflow_projects.prepare import KNOWN
from tuning.space import read_space

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
START = r"(?:mlflow run \.|python -m mlflow_projects\.\w+) "
FLAGS_OF_MLFLOW = {"-e": "main", "--env-manager": "", "--experiment-name": "", "--run-name": "", "--run-id": ""}


def commands(page):
    """Yield each command of a page, in blocks or within the text, as one line."""
    text = page.read_text()
    blocks = "\n".join(re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    for line in [*blocks.splitlines(), *(code for code in inline if " -P " in code)]:  # prose names entry points, too
        if found := re.search(rf"(?<![\w'\"-])({START}.*)", line):
            yield found[1]


def parsed(command):
    """Return the entry point of a command, and the flags that it gets."""
    words = shlex.split(command.partition(" > ")[0], comments=True)
    if words[0] == "python":
        return words[2].rpartition(".")[2], words[3:]
    given, flags, rest = dict(FLAGS_OF_MLFLOW), [], iter(words[3:])
    for word in rest:
        if word == "-P":
            flags.append(f"--{next(rest)}")
        else:
            assert word in given, f"{word} is no option of mlflow run"
            given[word] = next(rest)
    assert given["--env-manager"] == "local", "without --env-manager local it needs conda"
    return given["-e"], flags


def check(entry_point, flags):
    words = [flag for flag in flags if entry_point != "sync" or flag.startswith("-")]  # `sync` takes folders
    given = parse_options(words)
    if given.pop("help", None) or given.pop("print_config", None):
        return
    arguments = bind(importlib.import_module(f"mlflow_projects.{entry_point}").main, given)
    options = arguments.get("options", {})
    if entry_point == "prepare":
        bind(KNOWN[arguments["dataset"]], {"source": "x", "root": "y", **options})
        return
    if "config" in options and not Path(options["config"]).is_file():  # one that an earlier command has written
        options.pop("config")
    if entry_point == "study" and not arguments["name"].endswith(".yaml"):
        read_study(arguments["name"], arguments["size"], options, only=arguments["data"] or [], seeds=0)
    if entry_point == "sweep" and arguments["space"] and not arguments["space"].endswith(".yaml"):
        read_space(arguments["space"])
    if entry_point == "main" and arguments["comparison"].parent.name == CONFIGS.name:
        assert (ROOT / arguments["comparison"]).is_file()
    resolve(options)


@pytest.mark.parametrize("page", [page for page in PAGES if list(commands(page))], ids=lambda page: page.stem)
def test_the_entry_points_accept_the_commands_of_a_page(page):
    refused = {}
    for command in commands(page):
        try:
            check(*parsed(command))
        except (ValueError, AssertionError, KeyError) as error:
            refused[command] = str(error)
    assert not refused
