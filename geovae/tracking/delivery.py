"""Delivers the records of an outbox to one MLflow run: one function for each kind of record.

A record that the store refuses is dropped with a warning, since every retry would fail and block the records behind it.
Any other error is raised: the outbox retries.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from geovae.tracking.outbox import Record, deliver_all

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow's limits for one request
MAX_METRICS = 1000
MAX_PARAMS = 100
METRIC_RECORDS_AT_ONCE = 50


class Delivery:
    """Delivers records to the run `run_id`, or to the run that the first record creates. Not thread-safe.

    Args:
        client: of the store.
        folder: of the outbox.
        run_id: None until the run is created.
        continued: the run may hold records of an earlier process; a metric or an image that the store already has
            under the same key and step is skipped.
    """

    def __init__(self, client: "MlflowClient", folder: Path, run_id: str | None, continued: bool = False) -> None:
        self.client = client
        self.run_id: Any = run_id  # a string whenever a record is delivered: the first one creates the run
        self.stored = _Stored(client, run_id) if continued and run_id else None
        self._folder = folder

    def __call__(self, records: list[Record]) -> int:
        """Deliver the first record, or the metrics at the beginning in one request; return the number of records."""
        from mlflow.exceptions import MlflowException

        first, count = records[0], 1
        if first["kind"] == "metrics":
            while count < min(len(records), METRIC_RECORDS_AT_ONCE) and records[count]["kind"] == "metrics":
                count += 1
        try:
            SEND[first["kind"]](self, records[:count])
        except MlflowException as error:
            if error.get_http_status_code() >= 500:  # the store is away, it has not refused anything
                raise
            _warn_refused(first, error)
        except FileNotFoundError as error:  # the user removed an artifact before it was sent
            _warn_refused(first, error)
        return count

    def write_address(self) -> None:
        """Store beside the records where they go, without the user and password that the URI may hold."""
        uri = without_password(self.client.tracking_uri)
        (self._folder / "address.json").write_text(json.dumps({"tracking_uri": uri, "run_id": self.run_id}))


class _Stored:
    """The metrics and images that the store holds of a run: asked for once, then updated with what is sent.

    Updated, since the first records to be sent may be those that a dead process left in the outbox.
    """

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._client, self._run_id = client, run_id
        self._steps: dict[str, set[int]] = {}
        self._images: list[str] | None = None

    def has_metric(self, key: str, step: int) -> bool:
        if key not in self._steps:
            self._steps[key] = {point.step for point in self._client.get_metric_history(self._run_id, key)}
        return step in self._steps[key]

    def add_metrics(self, points: Iterable[tuple[str, int]]) -> None:
        for key, step in points:
            self._steps[key].add(step)

    def has_image(self, key: str, step: int) -> bool:
        if self._images is None:
            self._images = [item.path for item in self._client.list_artifacts(self._run_id, "images")]
        # MLflow writes the step of an image into its file name; the separator depends on the version
        name = f"images/{key.replace('/', '~')}"
        return any(path.startswith((f"{name}%step%{step}%", f"{name}+step+{step}+")) for path in self._images)

    def add_image(self, key: str, step: int) -> None:
        if self._images is not None:
            self._images.append(f"images/{key.replace('/', '~')}+step+{step}+")


def _create_run(delivery: Delivery, records: list[Record]) -> None:
    record = records[0]
    if delivery.run_id is None:
        run = delivery.client.create_run(
            record["experiment_id"], start_time=record["time"], tags=record["tags"], run_name=record["name"]
        )
        delivery.run_id = run.info.run_id
        delivery.write_address()


def _send_metrics(delivery: Delivery, records: list[Record]) -> None:
    from mlflow.entities import Metric

    points = [Metric(*point) for record in records for point in record["values"]]
    stored = delivery.stored
    if stored is not None:
        points = [point for point in points if not stored.has_metric(point.key, point.step)]
    for start in range(0, len(points), MAX_METRICS):
        delivery.client.log_batch(delivery.run_id, metrics=points[start : start + MAX_METRICS])
    if stored is not None:
        stored.add_metrics((point.key, point.step) for point in points)


def _send_params(delivery: Delivery, records: list[Record]) -> None:
    from mlflow.entities import Param

    params = [Param(key, value) for key, value in records[0]["values"].items()]
    for start in range(0, len(params), MAX_PARAMS):
        delivery.client.log_batch(delivery.run_id, params=params[start : start + MAX_PARAMS])


def _send_tags(delivery: Delivery, records: list[Record]) -> None:
    from mlflow.entities import RunTag

    delivery.client.log_batch(delivery.run_id, tags=[RunTag(k, v) for k, v in records[0]["values"].items()])


def _send_image(delivery: Delivery, records: list[Record]) -> None:
    from PIL import Image

    record = records[0]
    key, step, stored = record["key"], record["step"], delivery.stored
    if stored is not None and stored.has_image(key, step):
        return
    with Image.open(record["path"]) as image:
        # synchronous: MLflow's background thread would lose the image if the process died
        delivery.client.log_image(
            delivery.run_id, np.asarray(image), key=key, step=step, timestamp=record["time"], synchronous=True
        )
    if stored is not None:
        stored.add_image(key, step)


def _send_artifact(delivery: Delivery, records: list[Record]) -> None:
    delivery.client.log_artifact(delivery.run_id, records[0]["path"], records[0]["folder"] or None)


def _send_dataset(delivery: Delivery, records: list[Record]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    record = records[0]
    shape = record["shape"]
    # of uint8 images; the first axis, their number, is free
    features = [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, *shape[1:]]}}]
    dataset = Dataset(
        name=record["name"],
        digest=record["digest"][:36],  # the longest that MLflow takes
        source_type="local",
        source=json.dumps({"uri": record["source"]}),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps(features), "targets": None}}),
        profile=json.dumps({"features_shape": shape, "features_size": math.prod(shape)}),
    )
    context = InputTag("mlflow.data.context", record["context"])
    delivery.client.log_inputs(delivery.run_id, [DatasetInput(dataset, [context])])


def _end_run(delivery: Delivery, records: list[Record]) -> None:
    delivery.client.set_terminated(delivery.run_id, records[0]["status"], records[0]["time"])


SEND: dict[str, Callable[[Delivery, list[Record]], None]] = {
    "create": _create_run,
    "metrics": _send_metrics,
    "params": _send_params,
    "tags": _send_tags,
    "image": _send_image,
    "artifact": _send_artifact,
    "dataset": _send_dataset,
    "end": _end_run,
}


def sync(folder: Path, tracking_uri: str | None = None) -> int:
    """Deliver what a run left in its outbox `folder`; return the number of records.

    Args:
        folder: a run's outbox (`.../outbox`).
        tracking_uri: by default the one that the run wrote to.

    Raises:
        FileNotFoundError: if there is no outbox.
        BlockingIOError: if the run is alive, and delivers its records itself.
    """
    import mlflow

    # the store of the run, unless the caller knows a new address: a server may have moved
    address_file = folder / "address.json"
    address = json.loads(address_file.read_text()) if address_file.exists() else {}
    uri = tracking_uri or address.get("tracking_uri")
    delivery = Delivery(mlflow.MlflowClient(uri), folder, address.get("run_id"), continued=True)
    return deliver_all(folder, delivery)


def without_password(uri: str) -> str:
    """Return a tracking URI without the user and password that it may hold."""
    url = urlsplit(uri)
    return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2])) if "@" in url.netloc else uri


def _warn_refused(record: Record, error: Exception) -> None:
    warnings.warn(f"MLflow refused a {record['kind']} record: {' '.join(str(error).split())[:300]}")
