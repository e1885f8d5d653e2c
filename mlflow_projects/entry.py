"""What every entry point shares: the run that `mlflow run` made, one sentence for bad input, and exit codes.

0 done; 1 a fault of ours (traceback); 2 bad input, before anything was touched; 3 a promotion was refused; 130 and 143
for Ctrl-C and SIGTERM.
"""

import inspect
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from experiments.config import check_config as check_config
from experiments.config import split_flags, to_flags
from experiments.describe import describe_run as describe_run
from experiments.describe import writable
from geovae.tracking import MlflowTracker, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "geovae"
RUNS = Path("runs")


def main(function: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run an entry point on the command line's flags, and exit with the right code."""
    signal.signal(signal.SIGTERM, _terminate)
    warnings.showwarning = _show_warning
    # A tracking server that is gone must be noticed in seconds; the outbox does the waiting.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    try:
        function(sys.argv[1:])
    except (ValueError, FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, TimeoutError) as error:
        if os.environ.get("GEOVAE_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except SystemExit as end:
        raise SystemExit(_terminated[0] if _terminated else end.code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if _status(error) not in (401, 403) or os.environ.get("GEOVAE_TRACEBACK"):
            raise
        said = " ".join(str(error).split())
        print(f"error: the tracking server {tracking_uri()} refuses this user: {said}", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(0)


def _status(error: Exception) -> int:
    """Return the HTTP status that an error of MLflow's stands for; 0 for all others."""
    status = getattr(error, "get_http_status_code", None)
    return int(status()) if status is not None else 0


def _show_warning(message: Warning | str, category: type[Warning], *where: object, **options: object) -> None:
    """Show users the sentence, not the line of our code that says it; other people's categories stay quiet."""
    if category is UserWarning:
        print(f"warning: {message}", file=sys.stderr)


_terminated: list[int] = []  # exit codes of the signals that came: a SystemExit that Ray passes on has lost its own


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    _terminated.append(128 + signum)
    raise SystemExit(128 + signum)


def take_flags(flags: Sequence[str], **defaults: str) -> tuple[dict[str, str], list[str]]:
    """Take the flags named in `defaults` (`--name value` or `--name=value`) out of `flags`; return both parts.

    An empty value stands for the default, which is how an MLproject leaves a parameter open.
    """
    given, wants_help = split_flags(flags)
    values = {name: given.pop(name, default) for name, default in defaults.items()}
    return values, [*to_flags(given), *(["--help"] if wants_help else [])]


def open_run(name: str, title: str = "") -> MlflowTracker:
    """Return a tracker of the run that `mlflow run` created, or of a new one when called without it.

    Its name in the UI is `title`, by default `name`, unless the user gave one (`--run-name`). MLFLOW_RUN_ID leaves the
    environment here: a process started later must not take this run for its own.
    """
    import mlflow

    run_id = os.environ.pop("MLFLOW_RUN_ID", None)
    if run_id is None:
        experiment = mlflow.set_experiment(EXPERIMENT).experiment_id
        show_training_runs(experiment)
        output = writable(RUNS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
        return MlflowTracker(output, experiment_id=experiment, name=title or name, tags={"mlflow.source.name": name})
    run = mlflow.get_run(run_id)
    if _named_by_chance(run.info.run_name or ""):
        mlflow.MlflowClient().set_tag(run_id, "mlflow.runName", title or name)
    experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or run.info.experiment_id
    show_training_runs(experiment)
    return MlflowTracker(writable(RUNS / run_id), run_id=run_id, experiment_id=experiment)


def _named_by_chance(run_name: str) -> bool:
    """Return whether MLflow made up a run's name, such as `wise-snail-3`, because nobody gave one."""
    from mlflow.utils import name_utils

    words = run_name.split("-")
    return (
        len(words) == 3
        and words[0] in getattr(name_utils, "_GENERATOR_PREDICATES", ())
        and words[1] in getattr(name_utils, "_GENERATOR_NOUNS", ())
    )


def show_training_runs(experiment_id: str) -> None:
    """Let the UI open the experiment on its training runs: without this tag it takes every experiment for GenAI."""
    from mlflow import MlflowClient

    client = MlflowClient()
    if "mlflow.experimentKind" not in client.get_experiment(experiment_id).tags:
        client.set_experiment_tag(experiment_id, "mlflow.experimentKind", "custom_model_development")


def bind(
    function: Callable[..., Any],
    flags: Sequence[str],
    prog: str,
    *,
    skip: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the keyword arguments of `function` that the flags stand for; flags without a value are left out.

    `skip` names arguments that are no options, `defaults` replaces those of the signature. An argument whose default is
    a dataclass stands for the fields of the dataclass.

    Raises:
        ValueError: for an unknown option, or a value of the wrong type.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(prog=prog, exit_on_error=False, description=inspect.getdoc(function), allow_abbrev=False)
    signature = inspect.signature(function).parameters
    groups: dict[str, Any] = {name: type(p.default) for name, p in signature.items() if is_dataclass(p.default)}
    parser.add_function_arguments(function, as_positional=False, skip={*skip, *groups})
    for group in groups.values():
        parser.add_class_arguments(group, as_group=False)
    parser.set_defaults(dict(defaults or {}))
    given, wants_help = split_flags(flags)
    try:
        values = parser.parse_args(["--help"] if wants_help else to_flags(given)).as_dict()
    except ArgumentError as error:
        raise ValueError(" ".join(str(error).split()).replace("Parser key", "option")) from error
    for name, group in groups.items():
        values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
    return values


def show_help(flags: Sequence[str], known: Iterable[str], help_text: str | None) -> None:
    """On `--help`, print an entry point's documentation with its own options, and end."""
    if "--help" in flags:
        print(inspect.cleandoc(help_text or "") + "\n\noptions: " + ", ".join(f"--{name}" for name in known))
        raise SystemExit(0)


def refuse(flags: Sequence[str], known: Sequence[str], help_text: str) -> None:
    """Raise if there are flags left that an entry point does not know; print its documentation on `--help`."""
    show_help(flags, known, help_text)
    if flags:
        raise ValueError(f"unknown option {flags[0]!r}; valid here: {', '.join(f'--{name}' for name in known)}")


def whole(name: str, text: str, lowest: int) -> int:
    """Return the whole number that `text` stands for.

    Raises:
        ValueError: if it is none, or below `lowest`.
    """
    if not text.lstrip("-").isdigit() or int(text) < lowest:
        raise ValueError(f"`{name}` must be a whole number of at least {lowest}, got {text!r}")
    return int(text)


def yes(name: str, text: str) -> bool:
    """Return what `true` or `false` stands for.

    Raises:
        ValueError: for any other text.
    """
    if text not in ("true", "false"):
        raise ValueError(f"`{name}` must be true or false, got {text!r}")
    return text == "true"


def tracking_uri() -> str:
    """Return where the runs are kept, to be shown: without the password that the URI may hold."""
    import mlflow

    return without_password(mlflow.get_tracking_uri())


def say_where(save: "Callable[[MlflowClient, str], str]", tracker: MlflowTracker) -> str:
    """Save a view of the experiment; print and return the link that opens it, nothing where the store is away."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = tracking_uri()
    try:
        view = save(MlflowClient(), str(tracker.experiment_id))
    except MlflowException:  # the store is away; whoever delivers to it has said so
        return ""
    if uri.startswith("http"):
        print(f"See it all: {uri}/#/{view}")
    else:
        print(f"See it all: make ui    (mlflow server --backend-store-uri {uri} --host 127.0.0.1)")
        print(f"and open http://127.0.0.1:5000/#/{view}")
    return f"#/{view}"
