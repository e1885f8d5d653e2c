"""Delivers the records of an outbox to one MLflow run: one function for each kind of record.

A record that MLflow itself refuses is set aside in a file beside the outbox, since every retry would fail and block the
records behind it. Everything else (a password that changed, a proxy's page, a store that is damaged) is raised: the
outbox keeps the record and retries.
"""

import json
import math
import platform
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import numpy as np

from geovae.files import atomic_path
from geovae.tracking.confirm import confirm, confirm_metrics, has_image
from geovae.tracking.models import log_model
from geovae.tracking.outbox import Record, UndeliveredWarning, deliver_all

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow's limits for one request
MAX_METRICS = 1000
MAX_PARAMS = 100
RECORDS_AT_ONCE = 50
# MLflow's words for a value that it will never take; by HTTP statuses, a proxy that asks for a password says the same
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS")
ADDRESS = "address.json"  # in the outbox
RUN = "run.json"  # the files beside the outbox
REFUSED = "refused.jsonl"
SECRETS = re.compile(r"user|pass|pwd|secret|token|credential|api_?key|odbc_connect", re.IGNORECASE)  # in a query
TOKEN = "geovae.token"  # the tag that finds a run whose creation got no answer


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
        self.folder = folder
        self.repeats = False  # whether the records have been sent before, and may have arrived
        self.ends = run_id is None  # whether the run ends with its process; otherwise whoever created it ends it

    def __call__(self, records: list[Record]) -> int:
        """Deliver the first record, or the metrics or images at the beginning together; return their number."""
        count, kind = 1, records[0].get("kind")
        if kind in ("metrics", "image"):
            while count < min(len(records), RECORDS_AT_ONCE) and records[count].get("kind") == kind:
                count += 1
        try:
            self._send(records[:count])
        except Exception as error:
            if not self._refuses(records[0], error):
                self.repeats = True
                raise
            if count > 1:  # only one of them is at fault
                return self(records[:1])
            self._set_aside(records[0], error)
        self.repeats = False
        return count

    def _send(self, records: list[Record]) -> None:
        """Send records of one kind, and look whether they arrived."""
        first = records[0]
        if first.get("kind") not in SEND:  # UNREADABLE
            raise _Damaged("its line in records.jsonl is damaged")
        for path in (record["path"] for record in records if record.get("path")):
            if not Path(path).is_file():  # the user removed an artifact before it was sent
                raise _Damaged(f"there is no file {path} any more")
        SEND[first["kind"]](self, records)
        if first["kind"] != "metrics":  # these are looked for request by request
            confirm(self.client, self.run_id, records)

    def _refuses(self, record: Record, error: Exception) -> bool:
        """Return whether an error means that this record can never be delivered, although the store is there."""
        from mlflow.exceptions import MlflowException, RestException

        if isinstance(error, _Damaged):
            return True
        if not isinstance(error, MlflowException) or error.error_code not in REFUSALS or record.get("kind") == "create":
            return False
        if self.client.tracking_uri.startswith("http") and not isinstance(error, RestException):
            return False  # a status without MLflow's own answer
        if "'active' state" in str(error):  # the run was deleted, whatever it is by now
            return False
        run = self.client.get_run(self.run_id)  # raises where the store is away
        # a deleted run takes nothing until it is restored
        return bool(run.info.run_id == self.run_id and run.info.lifecycle_stage == "active")

    def _set_aside(self, record: Record, error: Exception) -> None:
        """Keep a record that cannot be delivered, and the file that it brought, beside the outbox."""
        kept = self.folder.with_name(REFUSED)
        reason = " ".join(str(error).split())[:300]
        path = Path(record.get("path", ""))
        if path.is_file() and path.is_relative_to(self.folder):  # it goes with the outbox
            copy = kept.with_suffix("") / f"{uuid.uuid4().hex[:8]}-{path.name}"
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(path, copy)
            record = record | {"path": str(copy)}
        with kept.open("a") as file:
            file.write(json.dumps({"reason": reason, "record": record, "run_id": self.run_id}) + "\n")
        message = f"MLflow refused a {record.get('kind')} record, which is kept in {kept}: {reason}"
        warnings.warn(message, UndeliveredWarning)

    def write_address(self) -> None:
        """Store beside the records where they go, and in the run's folder which run it is of.

        Without the user and password that the URI may hold.
        """
        uri, host = without_password(self.client.tracking_uri), platform.node()
        address = {"tracking_uri": uri, "run_id": self.run_id, "ends": self.ends, "host": host}
        for file in [self.folder / ADDRESS, *([self.folder.with_name(RUN)] if self.run_id else [])]:
            with atomic_path(file) as temporary:
                temporary.write_text(json.dumps(address))


class _Damaged(ValueError):
    """A record that nobody could deliver."""


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
        return has_image(self._images, key, step)

    def add_image(self, key: str, step: int) -> None:
        if self._images is not None:
            self._images.append(f"images/{key.replace('/', '~')}+step+{step}+.png")


def _create_run(delivery: Delivery, records: list[Record]) -> None:
    record = records[0]
    if delivery.run_id is not None:
        return
    # an earlier attempt may have created it, and its answer been lost
    found = delivery.client.search_runs([record["experiment_id"]], f"tags.`{TOKEN}` = '{record['tags'].get(TOKEN)}'")
    run = (found and found[0]) or delivery.client.create_run(
        record["experiment_id"], start_time=record["time"], tags=record["tags"], run_name=record["name"]
    )
    if not run.info.run_id:
        raise ConnectionError("the tracking server's answer is not MLflow's")
    delivery.run_id = run.info.run_id
    delivery.write_address()


def _send_metrics(delivery: Delivery, records: list[Record]) -> None:
    from mlflow.entities import Metric

    points = [Metric(*point) for record in records for point in record["values"]]
    stored = delivery.stored
    if stored is not None:
        points = [point for point in points if not stored.has_metric(point.key, point.step)]
    for start in range(0, len(points), MAX_METRICS):
        request = points[start : start + MAX_METRICS]
        delivery.client.log_batch(delivery.run_id, metrics=request)
        confirm_metrics(delivery.client, delivery.run_id, request)
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


def _send_images(delivery: Delivery, records: list[Record]) -> None:
    stored = delivery.stored
    if stored is None and delivery.repeats:
        stored = _Stored(delivery.client, delivery.run_id)  # for now: MLflow would keep the same image twice
    for record in records:
        if stored is None or not stored.has_image(record["key"], record["step"]):
            _send_image(delivery, record)
            if stored is not None:
                stored.add_image(record["key"], record["step"])


def _send_image(delivery: Delivery, record: Record) -> None:
    from PIL import Image

    about = {"key": record["key"], "step": record["step"], "timestamp": record["time"]}
    with Image.open(record["path"]) as image:
        # synchronous: MLflow's background thread would lose the image if the process died
        delivery.client.log_image(delivery.run_id, np.asarray(image), **about, synchronous=True)


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


def _send_model(delivery: Delivery, records: list[Record]) -> None:
    log_model(delivery.client, delivery.run_id, records[0]["name"], records[0]["scores"])


def _end_run(delivery: Delivery, records: list[Record]) -> None:
    delivery.client.set_terminated(delivery.run_id, records[0]["status"], records[0]["time"])


SEND: dict[str, Callable[[Delivery, list[Record]], None]] = {
    "create": _create_run,
    "metrics": _send_metrics,
    "params": _send_params,
    "tags": _send_tags,
    "image": _send_images,
    "artifact": _send_artifact,
    "dataset": _send_dataset,
    "model": _send_model,
    "end": _end_run,
}


def sync(folder: Path, tracking_uri: str | None = None) -> int:
    """Deliver what a run left in its outbox `folder`; return the number of records.

    A run that would have ended with its process ends as KILLED.

    Args:
        folder: a run's outbox (`.../outbox`).
        tracking_uri: by default the one that the run wrote to.

    Raises:
        FileNotFoundError: if there is no outbox.
        BlockingIOError: if the run is alive, and delivers its records itself.
        ValueError: if the file with the run's address is damaged.
    """
    import mlflow

    address, log = read_address(folder / ADDRESS), folder / "records.jsonl"
    # the store of the run, unless the caller knows a new address: a server may have moved
    uri = tracking_uri or address.get("tracking_uri")
    delivery = Delivery(mlflow.MlflowClient(uri), folder, address.get("run_id"), continued=True)
    exists = address.get("run_id") or (log.is_file() and b"\n" in log.read_bytes())  # it can have died before
    return deliver_all(folder, delivery, _killed(log) if address.get("ends") and exists else [])


def _killed(log: Path) -> list[Record]:
    """Return the last records of a run whose process died after it wrote `log`."""
    died = {"kind": "end", "status": "KILLED", "time": int(log.stat().st_mtime * 1000)}
    return [{"kind": "tags", "values": {"stop_reason": "its process died"}}, died]


def read_address(path: Path) -> dict[str, Any]:
    """Return what `write_address` wrote; nothing if there is no file.

    Raises:
        ValueError: if it is damaged.
    """
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError):
        wanted = '{"tracking_uri": "URI", "run_id": "ID"}'
        raise ValueError(f"{path} is damaged: write {wanted} of the run into it, and run this again") from None


def read_refused(file: Path) -> list[str]:
    """Return why each record in a file of refused records was refused."""
    return [json.loads(line)["reason"] for line in file.read_text().splitlines() if line.endswith("}")]


def without_password(uri: str) -> str:
    """Return a tracking URI without the user and password that it may hold, whatever characters these hold.

    No parser of URLs is asked: for `p#secret` or `p/secret` each finds another password, or none.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    if not rest.startswith("/"):  # files have no user, and may have an @ in their paths
        rest = rest.rpartition("@")[2]
    address, question, query = rest.partition("?")
    shown = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if not SECRETS.search(name)]
    return f"{scheme}://{address}" + (f"?{urlencode(shown, safe='/:')}" if question and shown else "")
