"""What MLflow and SQLAlchemy raise when a tracking store cannot be opened, as one sentence with the remedy."""

from urllib.parse import quote, unquote, urlsplit

from geovae.tracking import without_password

REMEDIES = {  # a part of the text of MLflow's error: what is wrong, and what to do
    "filesystem tracking backend": "is a folder, which MLflow no longer writes to: set "
    "MLFLOW_TRACKING_URI=sqlite:///mlflow.db; `mlflow migrate-filestore` moves old runs there",
    "database schema": "has the schema of another version of MLflow: save a copy, then run `mlflow db upgrade` on it",
    "deleted experiment": "holds this experiment as deleted: restore it (`mlflow experiments restore`), or set "
    "MLFLOW_EXPERIMENT_NAME to another",
    "Max retries exceeded": "does not answer: start the server, or correct MLFLOW_TRACKING_URI",
    "failed with error code 404": "answers, but not as MLflow does: does MLFLOW_TRACKING_URI lack the server's prefix?",
}


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
