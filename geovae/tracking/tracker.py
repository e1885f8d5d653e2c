"""Tracking: what a run tells the world. `NullTracker` forgets it, `MlflowTracker` keeps it in MLflow.

The only file of the library that imports mlflow. Everything goes through an `Outbox`: a training step never waits
for a server, and a dead server neither stops a run nor loses what it said.
"""

import json
import math
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from geovae.tracking.outbox import Outbox, Record, deliver_all

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(Protocol):
    """Where a run reports to; usable as a context manager that closes with the right status."""

    @property
    def run_id(self) -> str | None:
        """The run's id in the store; None where there is none (yet)."""

    def params(self, values: Mapping[str, object]) -> None:
        """Record parameters."""

    def metrics(self, values: Mapping[str, float], *, step: int = 0, timestamp: float | None = None) -> None:
        """Record numbers at a step; `timestamp` is seconds since the Unix epoch, by default now."""

    def image(self, key: str, image: np.ndarray, *, step: int = 0) -> None:
        """Record a uint8 image (h, w) or (h, w, 3) under a key whose steps can be slid through."""

    def figure(self, name: str, figure: "Figure") -> None:
        """Record a matplotlib figure as `name` (with .png) and close it."""

    def text(self, name: str, text: str) -> None:
        """Record a text file."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file, which must stay where it is until the tracker is closed."""

    def dataset(self, *, name: str, digest: str, source: str, context: str, shape: tuple[int, ...]) -> None:
        """Record that the run used a data set."""

    def tags(self, values: Mapping[str, object]) -> None:
        """Record tags."""

    def child(self, name: str, tags: Mapping[str, object] | None = None) -> "Tracker":
        """Start a run below this one."""

    def close(self, status: Status = "FINISHED") -> None:
        """Deliver everything and end the run, if this tracker started it."""

    def __enter__(self) -> Self:
        """Return the tracker."""

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Close as FINISHED, FAILED or (interrupted) KILLED."""


def _status(kind: type[BaseException] | None) -> Status:
    if kind is None:
        return "FINISHED"
    return "FAILED" if issubclass(kind, Exception) else "KILLED"


class NullTracker:
    """A tracker that records nothing."""

    run_id: str | None = None

    def params(self, values: Mapping[str, object]) -> None:
        """Forget `values`."""

    def metrics(self, values: Mapping[str, float], *, step: int = 0, timestamp: float | None = None) -> None:
        """Forget `values`."""

    def image(self, key: str, image: np.ndarray, *, step: int = 0) -> None:
        """Forget `image`."""

    def figure(self, name: str, figure: "Figure") -> None:
        """Close `figure`."""
        from matplotlib import pyplot

        pyplot.close(figure)

    def text(self, name: str, text: str) -> None:
        """Forget `text`."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Forget `path`."""

    def dataset(self, *, name: str, digest: str, source: str, context: str, shape: tuple[int, ...]) -> None:
        """Forget the data set."""

    def tags(self, values: Mapping[str, object]) -> None:
        """Forget `values`."""

    def child(self, name: str, tags: Mapping[str, object] | None = None) -> "NullTracker":
        """Return a tracker that records nothing either."""
        return NullTracker()

    def close(self, status: Status = "FINISHED") -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        """Return the tracker."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Do nothing."""


class MlflowTracker:
    """A tracker that writes one MLflow run, in the background and through an outbox on disk.

    Args:
        output: folder of the run's own files; the outbox lives in `output/outbox` until all of it has arrived.
        run_id: an existing MLflow run, which whoever made it also ends; without it the run is created with
            `name` and `tags`, and ended by `close`.
        experiment_id: where new runs and children go (an id: looking up a name races with other processes).
        name: of a new run.
        tags: of a new run.
        tracking_uri: of the store; by default MLflow's own resolution.
        close_timeout: seconds that `close` waits for the store.
        continued: `run_id` may hold records of an earlier process that died: a metric or an image that the store has
            under the same key and step is not sent again.
    """

    def __init__(
        self,
        output: Path,
        *,
        run_id: str | None = None,
        experiment_id: str | None = None,
        name: str | None = None,
        tags: Mapping[str, object] | None = None,
        tracking_uri: str | None = None,
        close_timeout: float = 30.0,
        continued: bool = False,
    ) -> None:
        import mlflow

        self._uri = tracking_uri or mlflow.get_tracking_uri()
        self._output = Path(output).absolute()
        self._experiment_id = experiment_id
        self._close_timeout = close_timeout
        self._owned = run_id is None
        folder = self._output / "outbox"
        self._delivery = _Delivery(mlflow.MlflowClient(self._uri), folder, run_id, continued)
        remedy = f"Once the tracking store answers: python -m mlflow_projects.sync {folder}"
        self._outbox = Outbox(folder, self._delivery, remedy=remedy)
        self._delivery.write_address()
        if run_id is None:
            self._create(experiment_id, name or "run", tags or {})

    @property
    def run_id(self) -> str | None:
        """The MLflow run's id; None as long as a new run could not be created."""
        return self._delivery.run_id

    @property
    def uri(self) -> str:
        """Where the store is."""
        return self._uri

    @property
    def experiment_id(self) -> str | None:
        """The MLflow experiment in which children are made."""
        return self._experiment_id

    @property
    def output(self) -> Path:
        """The folder of the run's own files."""
        return self._output

    def _create(self, experiment_id: str | None, name: str, tags: Mapping[str, object]) -> None:
        if experiment_id is None:
            raise ValueError("a new run needs `experiment_id`")
        new: Record = {"kind": "create", "experiment_id": experiment_id, "name": name, "tags": _strings(tags)}
        new["time"] = _now()
        try:
            self._delivery([new])
        except Exception:  # the store is away: the outbox creates the run when it is back
            self._outbox.put(new)

    def params(self, values: Mapping[str, object]) -> None:
        """Record parameters, cut to the 6,000 characters that MLflow takes."""
        self._put("params", values={k: v[:6000] for k, v in _strings(values).items()})

    def metrics(self, values: Mapping[str, float], *, step: int = 0, timestamp: float | None = None) -> None:
        """Record numbers; one that is not finite becomes a tag, since MLflow would rank it as 0."""
        at = _now() if timestamp is None else int(timestamp * 1000)
        finite = {key: float(value) for key, value in values.items() if math.isfinite(value)}
        self._put("metrics", values=[[key, value, at, step] for key, value in finite.items()])
        if len(finite) < len(values):
            self.tags({f"not_finite.{key}": values[key] for key in values.keys() - finite.keys()})

    def image(self, key: str, image: np.ndarray, *, step: int = 0) -> None:
        """Record a uint8 image under a key."""
        from PIL import Image

        path = self._outbox.files / f"{time.time_ns()}.png"
        Image.fromarray(image).save(path)
        self._put("image", path=str(path), key=key, step=step, time=_now())

    def figure(self, name: str, figure: "Figure") -> None:
        """Record a matplotlib figure as an artifact `name`."""
        from matplotlib import pyplot

        path = self._file(name)
        figure.savefig(path, dpi=110)
        pyplot.close(figure)
        self.artifact(path, str(Path(name).parent))

    def text(self, name: str, text: str) -> None:
        """Record a text artifact `name`."""
        path = self._file(name)
        path.write_text(text)
        self.artifact(path, str(Path(name).parent))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file below `folder` of the run's artifacts."""
        self._put("artifact", path=str(Path(path).absolute()), folder="" if folder == "." else folder)

    def dataset(self, *, name: str, digest: str, source: str, context: str, shape: tuple[int, ...]) -> None:
        """Record a data set input: `digest` is a hash of the content, `context` training, validation or test."""
        self._put("dataset", name=name, digest=digest, source=source, context=context, shape=list(shape))

    def tags(self, values: Mapping[str, object]) -> None:
        """Record tags."""
        self._put("tags", values=_strings(values))

    def child(self, name: str, tags: Mapping[str, object] | None = None) -> "MlflowTracker":
        """Start a nested run, whose own files lie below this one's."""
        parent = {"mlflow.parentRunId": self.run_id} if self.run_id else {}
        return MlflowTracker(
            self._output / name,
            experiment_id=self._experiment_id,
            name=name,
            tags={**parent, **(tags or {})},
            tracking_uri=self._uri,
            close_timeout=self._close_timeout,
        )

    def flush(self, timeout: float) -> bool:
        """Deliver what was said until now, for at most `timeout` seconds; return whether all of it arrived."""
        return self._outbox.flush(timeout)

    def close(self, status: Status = "FINISHED") -> None:
        """Deliver everything within `close_timeout`; end the run if this tracker created it."""
        if self._owned:
            self._put("end", status=status, time=_now())
        self._outbox.close(self._close_timeout)

    def __enter__(self) -> Self:
        """Return the tracker."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Close with the status that the exception, if any, stands for."""
        self.close(_status(kind))

    def _put(self, kind: str, **values: Any) -> None:
        self._outbox.put({"kind": kind, **values})

    def _file(self, name: str) -> Path:
        path = self._outbox.files / f"{time.time_ns()}" / Path(name).name
        path.parent.mkdir()
        return path


class _Delivery:
    """Delivers records of an outbox to MLflow; one instance a run. Called from one thread only."""

    def __init__(self, client: "MlflowClient", folder: Path, run_id: str | None, continued: bool = False) -> None:
        self.client = client
        self._told = _Told(client, run_id) if continued and run_id else None
        self.run_id: Any = run_id  # None until the store has created the run
        self._folder = folder

    def __call__(self, records: list[Record]) -> int:
        """Deliver the first record, and the metrics that follow one another in one request."""
        from mlflow.exceptions import MlflowException

        count = 1
        if records[0]["kind"] == "metrics":
            while count < min(len(records), 50) and records[count]["kind"] == "metrics":
                count += 1
        try:
            getattr(self, "_" + records[0]["kind"])(records[:count])
        except MlflowException as error:
            if error.get_http_status_code() >= 500:
                raise
            # The store understood and refused: repeating would block everything behind it.
            _warn_refused(records[0], error)
        except FileNotFoundError as error:
            _warn_refused(records[0], error)
        return count

    def write_address(self) -> None:
        """Keep beside the records where they go, without the user and password that the URI may hold."""
        uri = without_password(self.client.tracking_uri)
        (self._folder / "address.json").write_text(json.dumps({"tracking_uri": uri, "run_id": self.run_id}))

    def _create(self, records: list[Record]) -> None:
        record = records[0]
        if self.run_id is None:
            run = self.client.create_run(
                record["experiment_id"],
                start_time=record["time"],
                tags=record["tags"],
                run_name=record["name"],
            )
            self.run_id = run.info.run_id
            self.write_address()

    def _metrics(self, records: list[Record]) -> None:
        from mlflow.entities import Metric

        points = [Metric(*point) for record in records for point in record["values"]]
        if self._told is not None:
            points = [point for point in points if not self._told.metric(point.key, point.step)]
        for start in range(0, len(points), 1000):
            self.client.log_batch(self.run_id, metrics=points[start : start + 1000])
        if self._told is not None:
            self._told.add_metrics((point.key, point.step) for point in points)

    def _params(self, records: list[Record]) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in records[0]["values"].items()]
        for start in range(0, len(params), 100):
            self.client.log_batch(self.run_id, params=params[start : start + 100])

    def _tags(self, records: list[Record]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in records[0]["values"].items()])

    def _image(self, records: list[Record]) -> None:
        from PIL import Image

        record = records[0]
        if self._told is not None and self._told.image(record["key"], record["step"]):
            return
        with Image.open(record["path"]) as image:
            self.client.log_image(
                self.run_id,
                np.asarray(image),
                key=record["key"],
                step=record["step"],
                timestamp=record["time"],
                synchronous=True,
            )
        if self._told is not None:
            self._told.add_image(record["key"], record["step"])

    def _artifact(self, records: list[Record]) -> None:
        self.client.log_artifact(self.run_id, records[0]["path"], records[0]["folder"] or None)

    def _dataset(self, records: list[Record]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        record = records[0]
        shape = record["shape"]
        dataset = Dataset(
            name=record["name"],
            digest=record["digest"][:36],
            source_type="local",
            source=json.dumps({"uri": record["source"]}),
            schema=json.dumps({"mlflow_tensorspec": {"features": _tensorspec(shape), "targets": None}}),
            profile=json.dumps({"features_shape": shape, "features_size": math.prod(shape)}),
        )
        context = InputTag("mlflow.data.context", record["context"])
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, [context])])

    def _end(self, records: list[Record]) -> None:
        self.client.set_terminated(self.run_id, records[0]["status"], records[0]["time"])


class _Told:
    """What the store has of a run: asked for once, when it is first needed, and added to from then on.

    Added to, since the first records to be sent may be those that a dead process had not got rid of.
    """

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._client, self._run_id = client, run_id
        self._steps: dict[str, set[int]] = {}
        self._images: list[str] | None = None

    def metric(self, key: str, step: int) -> bool:
        if key not in self._steps:
            self._steps[key] = {point.step for point in self._client.get_metric_history(self._run_id, key)}
        return step in self._steps[key]

    def add_metrics(self, points: Iterable[tuple[str, int]]) -> None:
        for key, step in points:
            self._steps[key].add(step)

    def image(self, key: str, step: int) -> bool:
        if self._images is None:
            self._images = [item.path for item in self._client.list_artifacts(self._run_id, "images")]
        name = f"images/{key.replace('/', '~')}"
        return any(path.startswith((f"{name}%step%{step}%", f"{name}+step+{step}+")) for path in self._images)

    def add_image(self, key: str, step: int) -> None:
        if self._images is not None:
            self._images.append(f"images/{key.replace('/', '~')}+step+{step}+")


def without_password(uri: str) -> str:
    """Return a tracking URI without the user and password that it may hold."""
    url = urlsplit(uri)
    return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2])) if "@" in url.netloc else uri


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

    address_file = folder / "address.json"
    address = json.loads(address_file.read_text()) if address_file.exists() else {}
    uri = tracking_uri or address.get("tracking_uri")
    delivery = _Delivery(mlflow.MlflowClient(uri), folder, address.get("run_id"), continued=True)
    return deliver_all(folder, delivery)


def _warn_refused(record: Record, error: Exception) -> None:
    warnings.warn(f"MLflow refused a {record['kind']} record: {' '.join(str(error).split())[:300]}")


def _strings(values: Mapping[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}


def _now() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def _tensorspec(shape: list[int]) -> str:
    spec = {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, *shape[1:]]}}
    return json.dumps([spec])
