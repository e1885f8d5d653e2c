"""Opening a tracking store: its tables are made by one process; what MLflow and SQLAlchemy raise, in one sentence."""

import os
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from geovae.files import lock_file
from geovae.tracking import without_password

PATIENCE = 60.0  # seconds to wait for another process that makes the tables

REMEDIES = {  # a part of the text of MLflow's error: what is wrong, and what to do
    "filesystem tracking backend": "is a folder, which MLflow no longer writes to: set "
    "MLFLOW_TRACKING_URI=sqlite:///mlflow.db; `mlflow migrate-filestore` moves old runs there",
    "database schema": "has the schema of another version of MLflow: save a copy, then run `mlflow db upgrade` on it",
    "deleted experiment": "holds this experiment as deleted: restore it (`mlflow experiments restore`), or set "
    "MLFLOW_EXPERIMENT_NAME to another",
    "Max retries exceeded": "does not answer: start the server, or correct MLFLOW_TRACKING_URI",
    "failed with error code 404": "answers, but not as MLflow does: does MLFLOW_TRACKING_URI lack the server's prefix?",
}


def make_tables(uri: str) -> None:
    """Let MLflow make the tables of a new SQLite file while others wait: of two that make them at once, one fails."""
    from mlflow import MlflowClient
    from sqlalchemy.engine import make_url

    folder = Path(make_url(uri).database or "").absolute().parent if uri.startswith("sqlite") else None
    if folder is None or not folder.is_dir():  # the latter is MLflow's to say
        return
    handle, deadline = os.open(folder, os.O_RDONLY), time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                lock_file(handle)
                break
            time.sleep(0.05)
        MlflowClient(uri).search_experiments(max_results=1)
    finally:
        os.close(handle)


def explain(error: BaseException, uri: str) -> str:
    """Return the sentence for an error at opening the store at `uri`, without a password; nothing for other errors."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

    store, text = f"the tracking store {without_password(uri)}", str(error)
    if isinstance(error, MlflowException):
        found = (remedy for part, remedy in REMEDIES.items() if part in text)
        return next((f"{store} {remedy}" for remedy in found), "")
    if isinstance(error, ArgumentError) and not isinstance(error, NoSuchModuleError):  # the text may be the URI itself
        return "MLFLOW_TRACKING_URI is no URI of a database; a file's is sqlite:///FILE"
    if isinstance(error, DBAPIError):  # the whole text shows the statement, too
        reason = " ".join(without_secret(str(error.orig), uri).split())[:120]
        return f"{store} cannot be opened: {reason}; correct MLFLOW_TRACKING_URI"
    return ""


def without_secret(text: str, uri: str) -> str:
    """Return a driver's text without the URI and its password, encoded or not."""
    # not `url.password`: it ends at a `#` or `/` that somebody forgot to encode
    secret = uri.partition("://")[2].rpartition("@")[0].partition(":")[2] or urlsplit(uri).password or ""
    for hidden in filter(None, (uri, secret, unquote(secret), quote(secret, safe=""))):
        text = text.replace(hidden, "...")
    return text
