"""Help that can be read, examples that run, `--print_config`, `--quiet`, colours, completion, what Ctrl-C says."""

import gc
import importlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from experiments.config import parse_options, resolve
from experiments.help import as_command
from mlflow_projects import entry, main, sweep, train
from mlflow_projects.command_line import bind, build_parser
from tools.completion import PROGRAMS, completion

ROOT = Path(__file__).parents[2]


def module_of(name):
    return importlib.import_module(f"mlflow_projects.{name}")


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_has_one_type_for_each_option_and_examples_that_its_parser_accepts(name):
    function = module_of(name).main
    text = build_parser(function).format_help()
    assert not re.search(r"Optional\[|Literal\[|Union\[|<class|null|Path to a configuration file|--\w+\+", text)
    examples = re.findall(rf"^    python -m mlflow_projects\.{name} (.*)$", text, re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(example)
        flags = words[1:] if name == "sync" else words  # it takes folders
        given = {key: value for key, value in parse_options(flags).items() if key != "print_config"}
        options = bind(function, given).get("options", {})
        if name != "prepare":  # whose options are the builder's
            resolve(options)


def test_help_of_a_run_shows_the_samplers_when_asked(end):
    def help_of(*flags):
        with pytest.raises(SystemExit):
            entry.call(train.main, flags, resolve)

    short = end(SimpleNamespace(main=lambda: help_of("--help")))[1].out
    assert "--training.epochs" in short
    assert "--sampler.riemannian" not in short
    assert "`--help sampler`" in short
    whole = end(SimpleNamespace(main=lambda: help_of("--help=all")))[1].out
    assert whole.count("\n") > short.count("\n") + 80
    one = end(SimpleNamespace(main=lambda: help_of("--help", "sampler.mixture")))[1].out
    assert set(re.findall(r"--(\w+)\.", one)) == {"sampler"}
    assert "--model.through_force" in end(SimpleNamespace(main=lambda: help_of("--help", "--model", "rhvae")))[1].out
    with pytest.raises(ValueError, match=r"no options are called 'modle'; --help shows all, run, data, model"):
        entry.call(train.main, ["--help=modle"], resolve)


def test_print_config_is_the_file_that_repeats_the_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        entry.call(train.main, ["--model=wae", "--print_config", "--seed=3", "--training.learning_rate=1e-4"], resolve)
    assert ended.value.code == 0
    assert not list(tmp_path.iterdir())
    (tmp_path / "c.yaml").write_text(capsys.readouterr().out)
    wanted = resolve({"model": "wae", "seed": "3", "training.learning_rate": "1e-4"})
    assert resolve({"config": "c.yaml"}) == wanted


@pytest.mark.parametrize(("module", "own"), [(main, {"register": "geovae"}), (sweep, {"trials": 7, "seeds": [2, 4]})])
def test_print_config_shows_what_an_entry_point_would_use(capsys, module, own):
    flags = [
        "--print_config",
        "true",
        "--model.latent_dim=3",
        *(["--trials=7", "--seeds=2,4"] if "seeds" in own else []),
    ]
    with pytest.raises(SystemExit):
        entry.call(module.main, flags)
    shown = yaml.safe_load(capsys.readouterr().out)
    assert own.items() <= shown.items()
    assert (shown["address"], shown["model.latent_dim"]) == ("local", "3")


@pytest.mark.parametrize(("flags", "said"), [([], "result\n"), (["--quiet"], ""), (["--quiet=false"], "result\n")])
def test_quiet_leaves_errors_and_warnings(end, monkeypatch, flags, said):
    def speak() -> None:
        print("result")
        entry.complain("warning", "careful")

    monkeypatch.setenv("GEOVAE_QUIET", "")
    code, printed = end(SimpleNamespace(main=speak), *flags)
    assert (code, printed.out, printed.err) == (0, said, "warning: careful\n")
    assert (entry.os.environ["GEOVAE_QUIET"] == "1") == (said == "")  # the progress bar reads it


def test_the_start_alone_is_without_garbage_collection(end):
    def collects() -> None:
        print(gc.isenabled())

    gc.disable()
    assert end(SimpleNamespace(main=collects))[1].out == "True\n"
    source = "import sys, gc; sys.argv[0] = {!r}; import mlflow_projects; print(gc.isenabled())"
    for name, enabled in (("-m", "False"), ("program", "True")):
        done = subprocess.run([sys.executable, "-c", source.format(name)], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.strip() == enabled


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "no_color", "start"),
    [(Terminal(), "", "\x1b[1;31merror:\x1b[0m "), (Terminal(), "1", "error: "), (io.StringIO(), "", "error: ")],
)
def test_errors_are_red_on_a_terminal_alone(monkeypatch, stream, no_color, start):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    entry.complain("error", "wrong")
    assert stream.getvalue() == f"{start}wrong\n"


def test_commands_are_quoted_for_a_shell():
    command = as_command("train", {"config": "a folder/best.yaml", "search": "tags.model = 'vae'"}, "3")
    assert command.startswith("mlflow run . --env-manager local --experiment-id 3 -e train -P ")
    assert shlex.split(command)[-3:] == ["config=a folder/best.yaml", "-P", "search=tags.model = 'vae'"]


def test_ctrl_c_says_how_to_continue(end, monkeypatch):
    def interrupted(plan, *, output, tracker):
        (output / train.CHECKPOINT).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run", interrupted)
    code, said = end(train, "--dataset=digits", "--training.epochs=1")
    assert code == 130
    command = re.search(r"^warning: stopped; to continue: (.*)$", said.err, re.MULTILINE)[1]
    folder = shlex.split(command)[-1].removeprefix("resume=")
    assert (Path(folder) / "config.yaml").is_file()


def test_completion_in_bash_knows_names_and_values():
    pytest.importorskip("shtab")
    script = "".join(completion(name, "bash") for name in ("train", "sweep", "study"))
    ask = """
complete_words() {
  COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
  $(complete -p "$1" | sed -E 's/.*-F ([^ ]+).*/\\1/') "$1" "${COMP_WORDS[$COMP_CWORD]}"
  echo "${COMPREPLY[@]}"
}
complete_words geovae-train --model.lat
complete_words geovae-sweep --scheduler a
complete_words geovae-study --se
type -t geovae-train
"""
    done = subprocess.run(["bash", "--norc", "-c", script + ask], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["--model.latent_dim", "asha", "--seeds --seed", "function"]


def test_a_text_of_digits_is_no_number():
    digits = "1234567890" * 3 + "12"  # as an id of a run may be
    assert bind(train.main, {"resume": digits})["resume"] == digits
    with pytest.raises(ValueError, match="`seed` is too large a number"):
        resolve({"seed": digits})
