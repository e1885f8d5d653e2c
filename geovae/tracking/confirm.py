"""Looks whether the store has what was sent to it.

A proxy or a foreign server may answer everything with an empty page, which MLflow's client takes for success.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geovae.tracking.models import output_models
from geovae.tracking.outbox import Record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

SHORTEST_LIMIT = 250  # characters: some stores cut long values, at 250, 500, 5000 or 8000
# where artifacts go through the tracking server; other places are written by clients that check the answers themselves
THROUGH_SERVER = ("mlflow-artifacts:", "http:", "https:")


def confirm(client: "MlflowClient", run_id: str, records: Sequence[Record]) -> None:
    """Look for a record of any kind but metrics, or for several images, in the store.

    Raises:
        ConnectionError: if it is not there.
    """
    run, kind = _read_run(client, run_id), records[0]["kind"]
    if kind == "image":
        kept = _find_images(client, run, records)
    else:
        kept = kind not in FIND or FIND[kind](client, run, records[0])
    if not kept:
        raise ConnectionError(f"the tracking server did not keep a {kind} record")


def confirm_metrics(client: "MlflowClient", run_id: str, points: "Iterable[Metric]") -> None:
    """Look for the points of one request in the store: the last one of each key, since a request is kept whole.

    Raises:
        ConnectionError: if one is not there.
    """
    last: dict[str, tuple[int, int]] = {}
    for point in points:
        last[point.key] = max((point.step, point.timestamp), last.get(point.key, (point.step, point.timestamp)))
    # the public `metrics` lack the steps
    stored = {point.key: (point.step, point.timestamp) for point in _read_run(client, run_id).data._metric_objs}
    for key, sent in last.items():
        if stored.get(key) != sent and not (key in stored and stored[key] > sent and _has(client, run_id, key, sent)):
            raise ConnectionError(f"the tracking server did not keep {key} of step {sent[0]}")


def has_image(paths: Iterable[str], key: str, step: int) -> bool:
    """Return whether the paths of a run's images have one of a key and step."""
    # MLflow writes the step of an image into its file name; the separator depends on the version
    name = f"images/{key.replace('/', '~')}"
    starts = (f"{name}%step%{step}%", f"{name}+step+{step}+")
    return any(path.startswith(starts) and path.endswith(".png") for path in paths)  # beside it lies a thumbnail


def _read_run(client: "MlflowClient", run_id: str) -> "Run":
    run = client.get_run(run_id)
    if run.info.run_id != run_id:
        raise ConnectionError("the tracking server's answer is not MLflow's")
    return run


def _has(client: "MlflowClient", run_id: str, key: str, sent: tuple[int, int]) -> bool:
    return any((point.step, point.timestamp) == sent for point in client.get_metric_history(run_id, key))


def _find_values(client: "MlflowClient", run: "Run", record: Record) -> bool:
    stored: dict[str, str] = getattr(run.data, record["kind"])
    return all(_is_same(stored.get(key), value) for key, value in record["values"].items())


def _is_same(stored: str | None, sent: str) -> bool:
    return stored == sent or (stored is not None and len(stored) >= SHORTEST_LIMIT and sent.startswith(stored))


def _find_images(client: "MlflowClient", run: "Run", records: Sequence[Record]) -> bool:
    if not _is_proxied(run):
        return True
    stored = _list(client, run, "images")  # once for all of them: a long run has many
    return all(has_image(stored, record["key"], record["step"]) for record in records)


def _find_artifact(client: "MlflowClient", run: "Run", record: Record) -> bool:
    if not _is_proxied(run):
        return True
    path, stored = Path(record["path"]), _list(client, run, record["folder"])
    # the size, too: the store may hold an earlier version of the file
    return stored.get(f"{record['folder']}/{path.name}".lstrip("/"), -1) in (None, path.stat().st_size)


def _is_proxied(run: "Run") -> bool:
    return str(run.info.artifact_uri).startswith(THROUGH_SERVER)


def _list(client: "MlflowClient", run: "Run", folder: str) -> dict[str, int | None]:
    return {item.path: item.file_size for item in client.list_artifacts(run.info.run_id, folder or None)}


def _find_dataset(client: "MlflowClient", run: "Run", record: Record) -> bool:
    found = [item.dataset for item in run.inputs.dataset_inputs] if run.inputs else []
    return any(record["digest"].startswith(one.digest) and one.name == record["name"] for one in found)


def _find_model(client: "MlflowClient", run: "Run", record: Record) -> bool:
    return bool(output_models(run))


def _find_end(client: "MlflowClient", run: "Run", record: Record) -> bool:
    return bool(run.info.status == record["status"])


FIND: dict[str, Callable[[Any, Any, Record], bool]] = {
    "params": _find_values,
    "tags": _find_values,
    "artifact": _find_artifact,
    "dataset": _find_dataset,
    "model": _find_model,
    "end": _find_end,
}
