"""The one sentence that a user reads, at most 300 letters, for every error that a user can cause; none for a bug."""

import sys
import zipfile

from experiments.help import as_command
from geovae.checks import ListedProblems
from geovae.data import MissingData
from geovae.data.builders import ORIGINALS
from geovae.evaluation.inception import MissingWeights
from geovae.tracking import without_password
from mlflow_projects.stores import explain, without_secret

LETTERS = 300
WORD = 120  # letters of a name or value that are shown
MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "invalid buffer size", "Storage size calculation")


def describe(error: BaseException) -> str:
    """Return the sentence for an error, or nothing for one that only a bug in the code can cause."""
    if isinstance(error, ListedProblems):
        return str(error)
    text = _of_store(error) or _of_input(error)
    command = _prepare_command(error) if text else ""
    return shorten(text, LETTERS - len(command)) + command


def shorten(text: str, letters: int = LETTERS) -> str:
    """Return a text in one line, without the middle of words and lines that are too long: remedies come last."""
    return _cut(" ".join(_cut(word, WORD) for word in text.split()), letters)


def _cut(text: str, letters: int) -> str:
    if len(text) <= letters:
        return text
    half = (letters - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def _of_input(error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror[0].lower()}{error.strerror[1:]}{where}"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(m in str(error) for m in MEMORY)):
        return f"the memory does not suffice: {str(error) or name}; choose smaller sizes"
    if isinstance(error, RecursionError):
        return "the input is nested too deeply"
    if isinstance(error, OverflowError):
        return f"a number is too large: {error}"
    if isinstance(error, ValueError | OSError | zipfile.BadZipFile):
        return str(error) or name
    return ""


def _of_store(error: BaseException) -> str:
    """Return what MLflow or its database raised as a sentence, without a password."""
    if "mlflow" not in sys.modules:  # nothing was opened yet
        return ""
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = mlflow.get_tracking_uri()
    if (found := explain(error, uri)) or not isinstance(error, MlflowException):
        return found
    refuses = "refuses this user" if error.get_http_status_code() in (401, 403) else "answers"
    where = "server" if uri.startswith("http") else "store"
    return f"the tracking {where} {without_password(uri)} {refuses}: {without_secret(str(error), uri)}"


def _prepare_command(error: BaseException) -> str:
    """Return what to add to the library's sentence on missing files: the command that fetches or builds them."""
    if isinstance(error, MissingWeights):
        return f"; `{as_command('prepare', {'dataset': 'inception'})}` fetches them"
    if not isinstance(error, MissingData):
        return ""
    fetched = error.dataset in ORIGINALS
    options = {"dataset": error.dataset, **({} if fetched else {"source": "FOLDER"}), **error.options}
    more = ", which fetches the originals too" if fetched else ""
    return f"; the command is `{as_command('prepare', options)}`{more}"
