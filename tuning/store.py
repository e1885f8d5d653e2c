"""What a sweep asks of MLflow: runs for configurations and seeds, their true ends, and all of it back for a restart.

MLflow is the sweep's only memory: a run is created before its training starts, so that a new driver finds in the
store all that the dead one had begun. Writing happens in one thread, in order, and waits for a store that is away.
"""

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from geovae.tracking import without_password
from tuning.plan import Configuration, Run, State
from tuning.space import Options

T = TypeVar("T")
STATUS = {"FINISHED": "FINISHED", "STOPPED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED", "RUNNING": "RUNNING"}


class Store:
    """The runs of one sweep, or of another parent, below its own run.

    Args:
        uri: tracking URI.
        experiment_id: where the runs are made.
        sweep_id: the sweep's own run.
        group: the tag that holds `sweep_id`, by which its runs are found.
    """

    def __init__(self, uri: str, experiment_id: str, sweep_id: str, group: str = "sweep") -> None:
        import mlflow

        self.client = mlflow.MlflowClient(uri)
        self.uri, self.experiment_id, self.sweep_id = uri, experiment_id, sweep_id
        self._group, self._mine = group, f"tags.{group} = '{sweep_id}'"
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="mlflow")
        self._waiting: set[Future[Any]] = set()
        self._gave_up = False
        self.known: dict[str, str] = {}  # name: run id, of the runs that an earlier driver made
        self._tried: set[str] = set()  # names whose creation got no answer yet

    def later(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Call a method of this object in the writing thread, again and again until the store answers."""
        future = self._writer.submit(self._insist, function, *arguments)
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    def drain(self, timeout: float) -> bool:
        """Wait until everything is written, for at most `timeout` seconds; return whether it was."""
        late = wait(set(self._waiting), timeout).not_done
        self._gave_up = bool(late)
        self._writer.shutdown(wait=not late, cancel_futures=True)
        return not late

    def _insist(self, function: Callable[..., T], *arguments: Any) -> T:
        from mlflow.exceptions import MlflowException

        pause, told = 0.5, False
        while True:
            try:
                return function(*arguments)
            except MlflowException as error:
                if error.get_http_status_code() < 500 or self._gave_up:
                    raise
                if not told:
                    warnings.warn("the tracking store does not answer; the sweep goes on and starts new runs later")
                told = True
            time.sleep(pause)
            pause = min(5.0, 2 * pause)

    def open(self, name: str, parent: str | None, tags: Mapping[str, object], known: str | None = None) -> str:
        """Return the id of a running run: `known` again, or a new one below `parent` with a name unique in the sweep.

        A request that got no answer may have made the run all the same: only a first try creates without looking.
        """
        if known is not None:
            self.client.update_run(known, status="RUNNING")
            return known
        key = {self._group: self.sweep_id, "mlflow.parentRunId": parent or self.sweep_id}
        if name in self._tried:
            found = self._find(f"{self._mine} and attributes.run_name = '{name}'")
            if found:
                return str(found[0].info.run_id)
        self._tried.add(name)
        texts = {k: str(v) for k, v in {**key, **tags}.items()}
        run = self.client.create_run(self.experiment_id, tags=texts, run_name=name)
        self._tried.discard(name)
        return str(run.info.run_id)

    def describe(self, run_id: str, params: Mapping[str, object], tags: Mapping[str, object]) -> None:
        """Record parameters and tags."""
        from mlflow.entities import Param, RunTag

        self.client.log_batch(
            run_id,
            params=[Param(key, str(value)) for key, value in params.items()],
            tags=[RunTag(key, str(value)) for key, value in tags.items()],
        )

    def end(
        self, run_id: str, state: State, tags: Mapping[str, object], metrics: Mapping[str, float] | None = None
    ) -> None:
        """End a run as what became of it."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        points = [Metric(key, value, now, 0) for key, value in (metrics or {}).items()]
        texts = [RunTag(key, str(value)[:5000]) for key, value in tags.items()]
        if points or texts:
            self.client.log_batch(run_id, metrics=points, tags=texts)
        self.client.set_terminated(run_id, STATUS[state])

    def read(self) -> list[Configuration]:
        """Return the configurations of the sweep with what became of their runs."""
        found: dict[int, Configuration] = {}
        seeds = []
        for run in self._find(self._mine):
            tags = run.data.tags
            if tags.get("role") == "configuration":
                number = int(tags["configuration"].removeprefix("c"))
                found.setdefault(number, Configuration(number, json.loads(tags["options"]), {}, run.info.run_id))
            elif tags.get("role") == "seed":
                seeds.append(run)
        for run in seeds:
            number = int(run.data.tags["configuration"].removeprefix("c"))
            if number in found:
                found[number].runs.setdefault(int(run.data.tags["sweep.seed"]), one := _as_run(run))
                found[number].changed |= one.changed
        numbers = sorted(found)
        return [found[n] for n in numbers if numbers[: n + 1] == list(range(n + 1))]

    def names(self) -> dict[str, str]:
        """Return the ids of the sweep's runs by name."""
        return {run.info.run_name: run.info.run_id for run in self._find(self._mine)}

    def epochs(self, run_id: str, key: str) -> list[tuple[int, float]]:
        """Return the points of a metric by step."""
        return sorted({point.step: point.value for point in self.client.get_metric_history(run_id, key)}.items())

    def sweep_up(self, configurations: Sequence[Configuration]) -> None:
        """Make the store agree with what is known: no run doubled by a lost answer, none left RUNNING."""
        known = {c.run_id for c in configurations} | {r.run_id for c in configurations for r in c.runs.values()}
        for run in self._find(f"{self._mine} and attributes.status = 'RUNNING'"):
            if run.data.tags.get("role") not in ("configuration", "seed"):
                continue
            if run.info.run_id not in known:
                self.client.delete_run(run.info.run_id)
            else:
                self.client.set_terminated(run.info.run_id, "KILLED")

    def _find(self, query: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                query,
                max_results=1000,
                page_token=token,
                order_by=["attributes.start_time ASC"],
            )
            found += page
            token = page.token
            if not token:
                return found


def _as_run(run: Any) -> Run:
    tags, metrics = run.data.tags, run.data.metrics
    state: State = run.info.status if run.info.status in ("FINISHED", "FAILED", "KILLED") else "RUNNING"
    if state == "FINISHED" and tags.get("stop_reason"):
        state = "STOPPED"
    score = metrics.get(f"best/{tags['headline']}") if "headline" in tags else None
    if state == "FINISHED" and score is None:  # it ended, but its records did not arrive
        state = "KILLED"
    changed = json.loads(tags.get("changed", "{}"))
    return Run(run.info.run_id, state, score, tags.get("failure", ""), changed=changed)


def find_configurations(client: Any, sweep_id: str) -> list[tuple[Options, float]]:
    """Return options and mean score of the judged configurations of an earlier sweep, to start another from.

    Raises:
        FileNotFoundError: if there is no such sweep, or none of its configurations was judged.
    """
    run = find_sweep(client, sweep_id)
    store = Store(client.tracking_uri, run.info.experiment_id, sweep_id)
    found = [(c.options, c.mean) for c in store.read() if c.scores]
    if not found:
        raise FileNotFoundError(f"sweep {sweep_id} has no configuration with a score to start from")
    return found


def find_sweep(client: Any, sweep_id: str) -> Any:
    """Return the sweep's own run.

    Raises:
        FileNotFoundError: if there is none of that id, or it is no sweep.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(sweep_id)
    except MlflowException as error:
        raise FileNotFoundError(
            f"no sweep {sweep_id!r} in the tracking store {without_password(client.tracking_uri)}"
        ) from error
    if run.data.tags.get("role") != "sweep":
        raise FileNotFoundError(f"run {sweep_id} is no sweep: give the id of a run with the tag role=sweep")
    return run
