"""The command line of an entry point, from the signature of its `main`: typed arguments, `--help`, `--print_config`."""

import inspect
import itertools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import Options, RunOptions, check_names, list_names, parse, parse_options, rename, to_yaml
from experiments.help import HelpFormatter

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

COMMON = "Of all programs: --print_config shows what would be used; --quiet prints errors and warnings alone."


def call(
    function: Callable[..., None], flags: Sequence[str], more_options: Callable[[Options], Any] | None = None
) -> None:
    """Call an entry point with the flags of a command line as typed arguments, by `bind`.

    Words before the first flag fill a parameter `*words`. `more_options` resolves what `options` holds, and shows what
    it may hold if `help` is among them.

    Raises:
        ValueError: for an unknown option, or a value of the wrong type.
        SystemExit: after --help and --print_config.
    """
    kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
    takes_words = inspect.Parameter.VAR_POSITIONAL in kinds
    words = list(itertools.takewhile(lambda flag: takes_words and not flag.startswith("-"), flags))
    given = parse_options(flags[len(words) :])
    if "help" in given:
        return show_help(function, given, more_options)
    shows_config, quiet = (given.pop(name, "false") != "false" for name in ("print_config", "quiet"))
    arguments = bind(function, given)
    if shows_config:
        sys.stdout.write(to_yaml(as_config(arguments, more_options)))
        raise SystemExit(0)
    with ExitStack() as silence:
        if quiet:
            os.environ["GEOVAE_QUIET"] = "1"  # for progress bars, which go to stderr
            silence.enter_context(redirect_stdout(silence.enter_context(Path(os.devnull).open("w"))))
        function(*words, **arguments)


def show_help(function: Callable[..., None], given: Options, more_options: Callable[[Options], Any] | None) -> None:
    """Print the options of an entry point and those that `options` may hold, or a group of them alone.

    Raises:
        SystemExit: always.
    """
    if given["help"] in ("true", "all") or more_options is None:
        build_parser(function).print_help()
        print()
    if more_options is not None:
        more_options(given)
    raise SystemExit(0)


def as_config(arguments: Mapping[str, Any], more_options: Callable[[Options], Any] | None) -> dict[str, Any]:
    """Return the arguments of an entry point as plain values, with those in `options` and dataclasses."""
    plain: dict[str, Any] = {}
    for name, value in arguments.items():
        if name == "options":
            plain |= (more_options(value) if more_options else None) or value
        else:
            plain |= asdict(value) if is_dataclass(value) and not isinstance(value, type) else {name: value}
    return {name: _plain(value) for name, value in plain.items() if value != ""}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(one) for name, one in asdict(value).items()}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def bind(function: Callable[..., Any], given: Options, prog: str = "") -> dict[str, Any]:
    """Return all keyword arguments of `function`, typed: the values `given`, else its defaults.

    A parameter that is a dataclass stands for the dataclass's fields. A parameter `options` gets what else is given,
    under its dotted names and as text: it is typed by the function that it configures.

    Raises:
        ValueError: for an unknown option, or a value of the wrong type.
    """
    parser, parameters = build_parser(function, prog), inspect.signature(function).parameters
    names = list(parser.get_defaults().as_dict())
    others = rename({name: value for name, value in given.items() if name not in names})
    if "options" not in parameters:
        check_names(others, names)
    groups = _dataclasses(function)
    lists = list_names(function, *map(type, groups.values()))
    # of options that reach the parser through `**settings`, the function's own hints know nothing
    lists += [name for name, value in parser.get_defaults().as_dict().items() if isinstance(value, list | tuple)]
    values = parse(parser, {name: given[name] for name in names if name in given}, lists=lists)
    for name, group in groups.items():
        given_fields = {field.name: values.pop(field.name) for field in fields(group) if field.name in values}
        values[name] = replace(group, **given_fields)
    return values | ({"options": others} if "options" in parameters else {})


def build_parser(function: Callable[..., Any], prog: str = "") -> "ArgumentParser":
    """Return a parser of the options of `function`, all but `options`; see `bind`."""
    from jsonargparse import ArgumentParser

    groups = _dataclasses(function)
    about, _, examples = (inspect.getdoc(function) or "").partition("\n\nExamples:\n")
    parser = ArgumentParser(
        prog=prog or Path(sys.argv[0]).stem,
        usage="python -m mlflow_projects.%(prog)s [--OPTION VALUE ...]",
        exit_on_error=False,
        formatter_class=HelpFormatter,
        description=about.partition("\n\nArgs:")[0],
        epilog=f"examples:\n\n{examples}\n\n{COMMON}" if examples else COMMON,
    )
    parser.add_function_arguments(function, as_group=False, as_positional=False, skip={"options", *groups})
    # the `seed` that a user gives is the one of a sweep's runs, not that of its search
    takes_options = "options" in inspect.signature(function).parameters
    runs = {field.name for field in fields(RunOptions)} if takes_options else set()
    for group in groups.values():
        parser.add_class_arguments(type(group), skip=runs)
        parser.set_defaults({name: value for name, value in vars(group).items() if name not in runs})
    return parser


def _dataclasses(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the default values of those parameters that are dataclasses, by name."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if is_dataclass(parameter.default)}
