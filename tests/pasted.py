"""Commands that are shown to be pasted: by pages, by the examples of `--help`, and by what programs print."""

import importlib
import re
import shlex
from pathlib import Path

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
PROGRAMS = [
    file for room in ("mlflow_projects", "experiments", "tuning") for file in sorted(ROOT.glob(f"{room}/**/*.py"))
]
START = r"(?:mlflow run \.|python -m mlflow_projects\.\w+) "
FLAGS_OF_MLFLOW = ("-e", "--env-manager", "--experiment-name", "--experiment-id", "--run-name", "--run-id")


def of_page(page):
    """Yield each command of a page, in blocks or within the text, as one line; a shell variable has its value."""
    text = page.read_text()
    blocks = "\n".join(re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    for name, value in re.findall(r'^(\w+)="(.*)"$', blocks, re.MULTILINE):
        blocks = blocks.replace(f'{name}="{value}"', "").replace(f"${name} ", f"{value} ")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    for line in [*blocks.splitlines(), *(code for code in inline if " -P " in code)]:  # prose names entry points, too
        yield from in_text(line)


def in_text(text):
    """Yield the commands of a text: each reaches to the end of its line."""
    return re.findall(rf"(?<![\w'\"-])({START}.*)", text)


def of_program(file):
    """Yield the commands in a program's text: examples and remedies; what the program fills in is X."""
    text = re.sub(r"\{[^{}\n]+\}", "X", file.read_text())
    for line, part in re.findall(
        r"^ +(python -m mlflow_projects\.\w+ .*)$|(python -m mlflow_projects\.\w+ [^\"`;,\n]*)", text, re.MULTILINE
    ):  # an example; a remedy
        yield line or re.split(" (?:lists|delivers) ", part)[0]


def parsed(command):
    """Return the entry point of a command, and the flags that it gets."""
    words = shlex.split(command.partition(" > ")[0], comments=True)
    if words[0] == "python":
        return words[2].rpartition(".")[2], words[3:]
    given, flags, rest = {"-e": "main"}, [], iter(words[3:])
    for word in rest:
        if word == "-P":
            flags.append(f"--{next(rest)}")
        else:
            assert word in FLAGS_OF_MLFLOW, f"{word} is no option of mlflow run"
            given[word] = next(rest)
    assert given.get("--env-manager") == "local", "without --env-manager local it needs conda"
    return given["-e"], flags


def check(entry_point, flags):
    """Raise an error if the entry point would refuse the flags."""
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
