"""Commands that are shown to be pasted: by pages, by the examples of `--help`, and by what programs print."""

import importlib
import re
import shlex
from pathlib import Path

from experiments.config import parse_options, resolve
from experiments.studies.plan import read_study
from experiments.yaml_file import CONFIGS
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
# what the tests do not run, and why; that the entry points accept it is tested in test_pasted_commands.py
NOT_RUN = {
    r"\bstudy\b": "takes minutes: test_study.py runs every study in its smallest size",
    r"\badopt\b|models:/mine": "test_adopt.py runs the tutorial, with the files that its Python blocks make",
    r"\b(cohort|inspect|brains)\b|oasis": "needs brain volumes: test_brains_thread.py has some",
    r"\bprepare\b|dataset=mnist |dataset mnist$|fashion": "fetches files: test_originals.py serves them",
    r"my_space|dataset=folder|import_checkpoint": "needs files that a tutorial makes, or of another project",
    r"\bsweep\b": "starts Ray: tests/tuning/test_sweeps.py sweeps",
    r"address[ =]": "needs a cluster, which tests/tuning has",
    r"--help": "test_command_line.py prints all of it",
    r"local$|main --con": "is the demo, and this store is of it",
    r"rollback|unlock": "test_promotion.py has a version to go back to, and a lock",
    r"--resume|resume=": "test_kills.py has interrupted runs",
    r"\.sync\b": "test_sync.py has records that wait",
}
FEWER = {"n": "20", "trials": "1", "seeds": "1", "min_seeds": "1", "candidate": "1"}
RUN = {"data.train_size": "200", "model.width": "32", "training.epochs": "1", "n_samples": "40", "scores": "frechet"}
SHORT = {"train": RUN | {"extractor": "pixels"}, "evaluate": {"extractor": "pixels", "n": "20"}}
START = r"(?:mlflow run \.|python -m mlflow_projects\.\w+) "
FLAGS_OF_MLFLOW = ("-e", "--env-manager", "--experiment-name", "--experiment-id", "--run-name", "--run-id")


def shown():
    """Return the commands of each page and program."""
    return {page: list(of_page(page)) for page in PAGES} | {file: list(of_program(file)) for file in PROGRAMS}


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


def paste(project, command, values):
    """Run a command in a project, its placeholders filled in, a training with short options; return its end."""
    filled = re.sub(r"\b[A-Z]{3,}(_\w+)?\b", lambda name: values[name[0]], command)
    entry, flags = parsed(filled)
    folders = [flag for flag in flags if entry == "sync" and not flag.startswith("-")]
    given = parse_options([flag for flag in flags if flag not in folders])
    given |= {name: value for name, value in FEWER.items() if str(given.get(name, "")).isdigit()}
    if not given.keys() & {"resume", "print_config"}:
        given = SHORT.get(entry, {}) | given
    if command.startswith("mlflow"):
        return project.call(entry, *(f"{name}={value}" for name, value in given.items()))
    done = project.module(f"mlflow_projects.{entry}", *folders, *(f"--{name}={value}" for name, value in given.items()))
    if " > " in command:
        (project.folder / command.rpartition(" > ")[2]).write_text(done.stdout)
    return done
