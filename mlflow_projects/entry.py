"""What every entry point shares: the run that `mlflow run` made, one sentence for bad input, and exit codes.

0 done; 1 failed after it had opened a run, or a bug (traceback); 2 bad input, noticed before a run was opened; 3 a
promotion was refused; 4 done, but records wait for the tracking store or were refused by it; 130 and 143 for Ctrl-C and
SIGTERM.
"""

import gc
import os
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from experiments.config import Options
from experiments.describe import writable as writable
from experiments.help import run_url
from geovae.tracking import MlflowTracker, UndeliveredWarning, end_abandoned, show_model_of, without_password
from mlflow_projects import RUNS as RUNS
from mlflow_projects.command_line import call
from mlflow_projects.sentences import describe
from mlflow_projects.stores import make_tables

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "geovae"
EXPERIMENT_ID = os.environ.get("MLFLOW_EXPERIMENT_ID")  # read here: mlflow.set_experiment changes the variable
FAILED, REFUSED, UNDELIVERED = 1, 2, 4  # exit codes


def main(function: Callable[..., None], more_options: Callable[[Options], Any] | None = None) -> NoReturn:
    """Call an entry point with the command line's flags, by `call`, and exit with the right code."""
    gc.enable()  # see `mlflow_projects`
    signal.signal(signal.SIGTERM, _terminate)
    _undelivered.clear()
    _opened.clear()
    warnings.showwarning = _show_warning
    # a missing tracking server must be noticed in seconds: the queue on disk retries
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    try:
        call(function, sys.argv[1:], more_options)
    except SystemExit as end:
        raise SystemExit(_terminated[0] if _terminated else end.code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        # for developers: the sentence does not show where it comes from
        if os.environ.get("GEOVAE_TRACEBACK") or not (sentence := describe(error)):
            raise
        complain("error", sentence)
        raise SystemExit(FAILED if _opened else REFUSED) from None
    if _undelivered:  # the last line, since the run itself went well
        remedy = "python -m mlflow_projects.sync delivers what waits, and lists what was refused"
        complain("error", f"the run is done, but not all of its record is in the tracking store; {remedy}")
        raise SystemExit(UNDELIVERED)
    raise SystemExit(0)


def complain(kind: Literal["error", "warning"], text: str) -> None:
    """Print a sentence on stderr; on a terminal its first word is red or yellow (https://no-color.org)."""
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    word = f"\x1b[1;{31 if kind == 'error' else 33}m{kind}:\x1b[0m" if coloured else f"{kind}:"
    print(f"{word} {text}", file=sys.stderr)


def _show_warning(message: Warning | str, category: type[Warning], *where: object, **options: object) -> None:
    """Show users the sentence alone, without file and line; warnings of other packages are not shown."""
    if category is UndeliveredWarning:
        _undelivered.append(str(message))
    if category in (UserWarning, UndeliveredWarning):
        complain("warning", str(message))


_undelivered: list[str] = []  # what records are not in the store
_opened: list[str] = []  # names of the runs of this process
_terminated: list[int] = []  # exit codes of received signals: Ray re-raises SystemExit without its code


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    _terminated.append(128 + signum)
    raise SystemExit(128 + signum)


def check_new(folder: Path) -> None:
    """Raise a FileExistsError if an output folder exists already, a PermissionError if it cannot be made."""
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: choose another output folder, nothing is overwritten")
    check_writable(folder)


def check_writable(folder: Path) -> None:
    """Raise a PermissionError if nothing can be written to a folder, which is not made yet."""
    above = folder if folder.exists() else next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise PermissionError(f"cannot write to the output folder {folder}: {above} is no folder that can be written")


def open_run(name: str, title: str = "") -> MlflowTracker:
    """Return a tracker of the run that `mlflow run` created, or of a new one when called without it.

    Its name in the UI is `title`, by default `name`, unless the user gave one (`--run-name`). MLFLOW_RUN_ID is removed
    from the environment: a process started later must not write to this run. Runs that a killed process left here end.
    """
    import mlflow

    run_id = os.environ.pop("MLFLOW_RUN_ID", None)
    make_tables(mlflow.get_tracking_uri())
    if run_id is None:
        experiment = choose_experiment()
        show_training_runs(experiment)
        end_abandoned(RUNS, mlflow.get_tracking_uri())
        output = writable(RUNS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
        _opened.append(name)
        return MlflowTracker(output, experiment_id=experiment, name=title or name, tags={"mlflow.source.name": name})
    run = mlflow.get_run(run_id)
    _opened.append(name)
    if _named_by_chance(run.info.run_name or ""):  # a name that the user chose stays
        mlflow.MlflowClient().set_tag(run_id, "mlflow.runName", title or name)
    experiment = run.info.experiment_id
    show_training_runs(experiment)
    end_abandoned(RUNS, mlflow.get_tracking_uri())
    # owned: `mlflow run` may be killed before it ends the run
    return MlflowTracker(writable(RUNS / run_id), run_id=run_id, experiment_id=experiment, owned=True)


@contextmanager
def continue_run(run_id: str, tags: Mapping[str, str], output: Path | None = None) -> Iterator[MlflowTracker]:
    """Give the tracker of an interrupted run, which is RUNNING again, and ends with the outcome of this process.

    A run that `mlflow run` made for this process stays empty, and leads to the other by its `tags`. `output` is the
    folder of the interrupted run, by default the one that `open_run` gives runs of `mlflow run`.
    """
    import mlflow

    end_abandoned(RUNS, mlflow.get_tracking_uri())  # the run's last records come first
    with ExitStack() as stack:
        if os.environ.get("MLFLOW_RUN_ID") not in (None, run_id):
            stack.enter_context(open_run("resume")).tags({"role": "resume", **tags})
        os.environ.pop("MLFLOW_RUN_ID", None)
        client = mlflow.MlflowClient()
        run = client.get_run(run_id)
        folder, experiment = writable(output or RUNS / run_id), run.info.experiment_id
        _opened.append("resume")
        tracker = MlflowTracker(folder, run_id=run_id, experiment_id=experiment, continued=True, owned=True)
        stack.enter_context(tracker)
        client.update_run(run_id, status="RUNNING")  # after the outbox is on disk, by which a kill is noticed
        if "stop_reason" in run.data.tags:
            client.delete_tag(run_id, "stop_reason")
        yield tracker


def choose_experiment() -> str:
    """Return the id of the experiment that the environment names, else of geovae; it is created if it is missing."""
    import mlflow

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if EXPERIMENT_ID and not name:
        return EXPERIMENT_ID
    # it also refuses a deleted experiment, and waits for another process that creates the same one
    return str(mlflow.set_experiment(name or EXPERIMENT).experiment_id)


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
    """Let the UI open the experiment on its training runs: without this tag it shows the GenAI view."""
    from mlflow import MlflowClient

    client = MlflowClient()
    if "mlflow.experimentKind" not in client.get_experiment(experiment_id).tags:
        client.set_experiment_tag(experiment_id, "mlflow.experimentKind", "custom_model_development")


def tracking_uri() -> str:
    """Return where the runs are kept, to be shown: without the password that the URI may hold."""
    import mlflow

    return without_password(mlflow.get_tracking_uri())


def run_address(tracker: MlflowTracker) -> str:
    """Return where the page of a run is, after `make ui` if there is no server."""
    url = run_url(tracking_uri(), str(tracker.experiment_id), str(tracker.run_id))
    return url if url.startswith("http") else f"http://127.0.0.1:5000/{url} (after `make ui`)"


def show_best(tracker: MlflowTracker, run_id: str) -> None:
    """Let the page of a run show the model and the data of its best run, unless the store is down."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    if tracker.run_id:
        with suppress(MlflowException):  # the tracker has warned of it already
            show_model_of(MlflowClient(), tracker.run_id, run_id)


def show_view(save: "Callable[[MlflowClient, str], str]", tracker: MlflowTracker) -> str:
    """Save a view of the experiment; print and return the link that opens it, or nothing if the store is down."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = tracking_uri()
    try:
        view = save(MlflowClient(), str(tracker.experiment_id))
    except MlflowException:  # the store does not answer; the tracker has warned of it already
        return ""
    if uri.startswith("http"):
        print(f"See it all: {uri}/#/{view}")
    else:
        print(f"See it all: make ui    # or: mlflow server --backend-store-uri {shlex.quote(uri)} --host 127.0.0.1")
        print(f"then open http://127.0.0.1:5000/#/{view}")
    return f"#/{view}"
