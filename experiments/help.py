"""Text for users: how `--help` reads, commands that can be pasted, and addresses of runs.

Help has one type for each option, in words, its default, and examples as they are typed.
"""

import re
import shlex
import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from jsonargparse import DefaultHelpFormatter

from geovae.tracking import without_password

TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "null"}
WORDS = {int: "whole number", float: "number", Path: "path"}
SEVERAL = (list, tuple, Sequence)


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's, which shows types as Python writes them, twice where there are choices."""

    def add_argument(self, action: Action) -> None:
        """Add an option to a group, but not those with which jsonargparse reads a file for a whole group."""
        # on our command lines `--model vae` names a model, and `--config` reads files
        if action.help != "Path to a configuration file.":
            super().add_argument(action)

    def _format_action_invocation(self, action: Action) -> str:
        # without `--scores+ SCORES`: lists are given with commas
        return re.sub(r", --\S+\+ \S+", "", super()._format_action_invocation(action))

    def _get_help_string(self, action: Action) -> str:
        if action.help == SUPPRESS or action.dest == "help":
            return super()._get_help_string(action)
        default = in_text(action.default)
        more = [in_words(getattr(action, "_typehint", action.type)), f"default: {default}" if default else ""]
        more = ["required" if action.required else "", *more]
        return f"{action.help or ''} ({', '.join(filter(None, more))})".replace(" ()", "").strip()

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Wrap paragraphs; indented ones are examples, which stay as they are."""
        paragraphs = (p if p.startswith(" ") else textwrap.fill(" ".join(p.split()), width) for p in text.split("\n\n"))
        return "\n\n".join(paragraphs)


def in_words(hint: Any) -> str:
    """Return a type in words; nothing for text, and for choices, which stand before the help already."""
    options = [one for one in get_args(hint) if one is not NoneType]
    if hint in (str, bool, None) or get_origin(hint) is Literal:
        return ""
    if get_origin(hint) in SEVERAL:
        return f"{in_words(options[0]) or 'name'}s with commas"
    if not options:
        return WORDS.get(hint, getattr(hint, "__name__", str(hint)))
    shown = [", ".join(map(str, get_args(one))) if get_origin(one) is Literal else in_words(one) for one in options]
    return " or ".join(filter(None, shown))


def in_text(value: Any) -> str:
    """Return a default as a command line writes it; nothing where the program chooses."""
    if value is None or value == SUPPRESS:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def as_command(entry_point: str, options: Mapping[str, object], experiment_id: str = "") -> str:
    """Return the command that runs an entry point, quoted for a shell, in an experiment if its id is given."""
    experiment = ["--experiment-id", experiment_id] if experiment_id else []
    given = [word for name, value in options.items() for word in ("-P", f"{name}={value}")]
    return shlex.join(["mlflow", "run", ".", "--env-manager", "local", *experiment, "-e", entry_point, *given])


def run_url(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run in MLflow's UI, without a password; without a server the part below its address."""
    server = without_password(tracking_uri).rstrip("/") + "/" if tracking_uri.startswith("http") else ""
    # without the last part MLflow opens its side bar for language models, where runs are "evaluation runs"
    return f"{server}#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def type_in_words(kind: str) -> str:
    """Return a type, as jsonargparse writes it, in words."""
    if literal := re.search(r"Literal\[(.*)\]", kind):
        return f"one of {literal[1]}".replace("'", "")
    name = re.sub(r"<class '(.*)'>", r"\1", kind)
    return TYPES.get(name, f"a {name}")


def is_part(group: str, part: str) -> bool:
    """Return whether help on `part` shows a group of options: "true" is all but the samplers'."""
    if part == "true":
        return not group.startswith("sampler.")
    return part in ("all", group) or group.startswith(f"{part}.")
