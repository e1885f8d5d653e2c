"""Processes that kill themselves at a chosen moment, and what they leave. They are forks, which saves the imports.

They and the checks share no connection to a store: a test looks into its store only after the last fork.
"""

import builtins
import io
import itertools
import os
import signal
import time
import traceback
from contextlib import suppress
from pathlib import Path

import mlflow

from geovae.tracking import outbox

EXPERIMENT = "0"  # the default, which a store has from its beginning
TINY = {
    "data.name": "digits",
    "data.augment": "0",
    "data.train_size": "300",
    "model.width": "16",
    "model.latent_dim": "3",
    "training.epochs": "4",
    "n_samples": "60",
    "extractor": "pixels",
    "scores": "frechet",
    "samplers": "prior",
    "images_every": "2",
}
FLAGS = [f"--{name}={value}" for name, value in TINY.items()]


def start(work):
    """Do `work` in a process of its own; return its id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(BaseException), open("log", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc(file=log)
        os._exit(code)
    return pid


def fork(work, kill_after=None):
    """Do `work` in a process of its own, which is killed after some seconds; return its exit code."""
    pid = start(work)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


REQUESTS = ("create_run", "log_batch", "update_run", "set_terminated", "log_artifact", "log_inputs", "set_tag")
FILES = [(os, "replace"), (outbox, "_append"), (outbox, "_remove"), (outbox, "_create_and_lock")]


def die_at(moment):
    """Let this process kill itself at its nth moment: before or after something that another process could see."""
    return _watch([*FILES, *((mlflow.MlflowClient, name) for name in REQUESTS)], moment)


def die_anywhere(moment):
    """Let this process kill itself at its nth moment of more kinds; return a function that counts them."""
    writes = ("create_", "log_", "set_", "update_", "delete_", "transition_")
    requests = [name for name in dir(mlflow.MlflowClient) if name.startswith(writes)]
    calls = [(os, name) for name in ("replace", "rename", "mkdir", "rmdir", "unlink")]
    calls += [(outbox, "_append"), *((mlflow.MlflowClient, name) for name in requests)]
    seen = _watch(calls, moment)
    opened = builtins.open

    def watched(file, mode="r", *arguments, **options):
        if set(mode) & set("wax+"):
            seen()
        return opened(file, mode, *arguments, **options)

    builtins.open = io.open = watched
    return seen


def _watch(calls, moment):
    count = itertools.count(1)

    def die():
        now = next(count)
        if now == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return now

    def seen(function):
        def counted(*arguments, **options):
            die()
            result = function(*arguments, **options)
            die()
            return result

        return counted

    for owner, name in calls:
        setattr(owner, name, seen(getattr(owner, name)))
    return die


def runs(uri):
    return mlflow.MlflowClient(uri).search_runs([EXPERIMENT])


def points(uri, run, key):
    return [(p.step, p.value) for p in mlflow.MlflowClient(uri).get_metric_history(run.info.run_id, key)]


def left(folder=Path()):
    """Return what dead processes have left below a folder."""
    return [path for name in ("records.jsonl", "address.json", ".*.partial*") for path in folder.rglob(name)]
