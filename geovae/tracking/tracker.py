"""Trackers record a run: `NullTracker` nothing, `MlflowTracker` one MLflow run.

Everything goes through an outbox, a queue on disk: a training step never waits for a server, and a server that is away
neither stops a run nor loses a record.
"""

import math
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np

from geovae.tracking.delivery import TOKEN, Delivery
from geovae.tracking.outbox import Outbox, Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

Status = Literal["FINISHED", "FAILED", "KILLED"]
MAX_PARAM = 6000  # characters that MLflow stores of a parameter's value
CREATE_TIMEOUT = 60.0  # seconds; a store that is away is noticed at the first failure


class Tracker(Protocol):
    """Where a run is recorded; as a context manager it closes with the right status."""

    @property
    def run_id(self) -> str | None:
        """The run's id in the store; None without a store, or as long as the run could not be created."""

    def params(self, values: Mapping[str, object]) -> None:
        """Record parameters."""

    def metrics(self, values: Mapping[str, float], *, step: int = 0, timestamp: float | None = None) -> None:
        """Record numbers at a step; `timestamp` is in seconds since the Unix epoch, by default now."""

    def image(self, key: str, image: np.ndarray, *, step: int = 0) -> None:
        """Record a uint8 image (h, w) or (h, w, 3); images of one key form a series over their steps."""

    def figure(self, name: str, figure: "Figure") -> None:
        """Record a matplotlib figure as the artifact `name` (ending in .png) and close it."""

    def text(self, name: str, text: str) -> None:
        """Record a text file as the artifact `name`."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file below `folder` of the artifacts; it must stay in place until the tracker is closed."""

    def dataset(self, *, name: str, digest: str, source: str, context: str, shape: tuple[int, ...]) -> None:
        """Record a data set of images (n, c, h, w): `digest` hashes its content, `context` is train, val or test."""

    def model(self, name: str, scores: Mapping[str, str]) -> None:
        """Record that the run made a model, with the context (val, test) of the data of each of its `scores`."""

    def tags(self, values: Mapping[str, object]) -> None:
        """Record tags."""

    def child(self, name: str, tags: Mapping[str, object] | None = None) -> "Tracker":
        """Return the tracker of a new run below this one."""

    def close(self, status: Status = "FINISHED") -> None:
        """Deliver everything, and end the run if this tracker created it."""

    def __enter__(self) -> Self:
        """Return the tracker."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *rest: object) -> None:
        """Close as FINISHED, after an exception or with an exit code as FAILED, after an interruption as KILLED."""
        # from 128 on an exit code stands for a signal
        failed = isinstance(error, Exception) or (isinstance(error, SystemExit) and error.code in range(1, 128))
        self.close("FINISHED" if kind is None else "FAILED" if failed else "KILLED")


class NullTracker(Tracker):
    """Records nothing."""

    run_id: str | None = None

    def _ignore(self, *values: Any, **options: Any) -> None:
        pass

    params = metrics = image = text = artifact = dataset = model = tags = close = _ignore

    def figure(self, name: str, figure: "Figure") -> None:
        """Close `figure`."""
        from matplotlib import pyplot

        pyplot.close(figure)

    def child(self, name: str, tags: Mapping[str, object] | None = None) -> "NullTracker":
        """Return a tracker that records nothing either."""
        return NullTracker()


class MlflowTracker(Tracker):
    """Records one MLflow run, in the background and through an outbox on disk.

    Args:
        output: folder of the run's own files; the outbox lies in `output/outbox` until everything has arrived.
        run_id: an existing MLflow run, which whoever created it also ends; without it a run is created with `name` and
            `tags`, and ended by `close`.
        experiment_id: where new runs and children go (an id: looking up a name races with other processes).
        name: of a new run.
        tags: of a new run.
        tracking_uri: of the store; by default MLflow's own resolution.
        close_timeout: seconds that `close` waits for the store.
        continued: `run_id` may hold records of an earlier process that died: a metric or an image that the store has
            under the same key and step is not sent again.
        owned: the run `run_id` ends with this process, although others created it.
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
        owned: bool = False,
    ) -> None:
        import mlflow

        self.uri: str = tracking_uri or mlflow.get_tracking_uri()
        self.output = Path(output).absolute()
        self.experiment_id = experiment_id
        self._close_timeout = close_timeout
        folder = self.output / "outbox"
        self._delivery = Delivery(mlflow.MlflowClient(self.uri), folder, run_id, continued)
        self._outbox = Outbox(folder, self._delivery, remedy=_how_to_deliver)
        self._delivery.folder = self._outbox.folder
        self._delivery.ends |= owned
        self._delivery.write_address()
        if run_id is None:
            self._create(experiment_id, name or "run", tags or {})
        self._monitor = _watch_machine(self.run_id, self.uri, resumed=run_id is not None)

    def _create(self, experiment_id: str | None, name: str, tags: Mapping[str, object]) -> None:
        from mlflow.tracking.context.registry import resolve_tags

        if experiment_id is None:
            raise ValueError("a new run needs `experiment_id`")
        texts = resolve_tags(_to_strings(tags)) | {TOKEN: uuid.uuid4().hex}
        new: Record = {"kind": "create", "experiment_id": experiment_id, "name": name, "tags": texts, "time": _now()}
        self._outbox.put(new)  # on disk first: a process that dies now leaves no run that nothing tells of
        self._outbox.flush(CREATE_TIMEOUT)  # at once, since children need the id of their parent

    @property
    def run_id(self) -> str | None:
        """The MLflow run's id; None as long as a new run could not be created."""
        run_id: str | None = self._delivery.run_id
        return run_id

    def params(self, values: Mapping[str, object]) -> None:
        """Record parameters, the values cut to the length that MLflow stores."""
        self._put("params", values={key: value[:MAX_PARAM] for key, value in _to_strings(values).items()})

    def metrics(self, values: Mapping[str, float], *, step: int = 0, timestamp: float | None = None) -> None:
        """Record numbers; one that is not finite becomes a tag, since MLflow would rank it as 0."""
        at = _now() if timestamp is None else int(timestamp * 1000)
        finite = {key: float(value) for key, value in values.items() if math.isfinite(value)}
        self._put("metrics", values=[[key, value, at, step] for key, value in finite.items()])
        if len(finite) < len(values):
            self.tags({f"not_finite.{key}": values[key] for key in values.keys() - finite.keys()})

    def image(self, key: str, image: np.ndarray, *, step: int = 0) -> None:
        """Record a uint8 image (h, w) or (h, w, 3)."""
        from PIL import Image

        # on disk, since the record may be delivered by another process
        path = self._outbox.files / f"{time.time_ns()}.png"
        Image.fromarray(image).save(path)
        self._put("image", path=str(path), key=key, step=step, time=_now())

    def figure(self, name: str, figure: "Figure") -> None:
        """Record a matplotlib figure as the artifact `name` and close it."""
        from matplotlib import pyplot

        path = self._new_file(name)
        figure.savefig(path, dpi=110)
        pyplot.close(figure)
        self.artifact(path, str(Path(name).parent))

    def text(self, name: str, text: str) -> None:
        """Record a text file as the artifact `name`."""
        path = self._new_file(name)
        path.write_text(text)
        self.artifact(path, str(Path(name).parent))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file below `folder` of the run's artifacts."""
        self._put("artifact", path=str(Path(path).absolute()), folder="" if folder == "." else folder)

    def dataset(self, *, name: str, digest: str, source: str, context: str, shape: tuple[int, ...]) -> None:
        """Record a data set as an input of the run."""
        self._put("dataset", name=name, digest=digest, source=source, context=context, shape=list(shape))

    def model(self, name: str, scores: Mapping[str, str]) -> None:
        """Record that the run made a model, once its scores are recorded."""
        self._put("model", name=name, scores=dict(scores))

    def tags(self, values: Mapping[str, object]) -> None:
        """Record tags."""
        self._put("tags", values=_to_strings(values))

    def child(self, name: str, tags: Mapping[str, object] | None = None) -> "MlflowTracker":
        """Return the tracker of a new run below this one; its files lie in `output/name`."""
        parent = {"mlflow.parentRunId": self.run_id} if self.run_id else {}
        return MlflowTracker(
            self.output / name,
            experiment_id=self.experiment_id,
            name=name,
            tags={**parent, **(tags or {})},
            tracking_uri=self.uri,
            close_timeout=self._close_timeout,
        )

    def flush(self, timeout: float) -> bool:
        """Deliver what was recorded until now, for at most `timeout` seconds; return whether all of it arrived."""
        return self._outbox.flush(timeout)

    def close(self, status: Status = "FINISHED") -> None:
        """Deliver everything within `close_timeout` seconds; end the run if this tracker created or owns it.

        Raises an `UndeliveredWarning` if something did not arrive.
        """
        if self._monitor is not None:
            self._monitor.finish()
        # whoever created the run may be gone when its last records arrive: then they end it
        if self._delivery.ends or not self._outbox.flush(self._close_timeout):
            self._put("end", status=status, time=_now())
        self._outbox.close(self._close_timeout)

    def _put(self, kind: str, **values: Any) -> None:
        self._outbox.put({"kind": kind, **values})

    def _new_file(self, name: str) -> Path:
        """Return a path in the outbox, in a folder of its own, so that the file keeps its name."""
        path = self._outbox.files / f"{time.time_ns()}" / Path(name).name
        path.parent.mkdir()
        return path


def _watch_machine(run_id: str | None, uri: str, resumed: bool) -> "SystemMetricsMonitor | None":
    """Start MLflow's monitor of the machine where MLflow's own variable asks for it.

    It writes to the store itself, without the outbox, and ends where the store is away.
    """
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

    if run_id is None or not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        return None
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=resumed, tracking_uri=uri)
    monitor.start()
    return monitor


def _how_to_deliver(folder: Path) -> str:
    return f"Once the tracking store answers, `geovae.tracking.sync({str(folder)!r})` delivers them."


def _to_strings(values: Mapping[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}


def _now() -> int:
    """Return the time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000
