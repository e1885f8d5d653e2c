"""The MLflow runs of a sweep: created before their trials start, ended with their outcomes, read back for a resume.

MLflow is the sweep's only memory. Writes go through a queue with one writer thread and are retried until the store
answers. Why not the queue on disk of `geovae.tracking.outbox`: that one delivers records and returns nothing, but here
callers wait for ids of new runs; and a resumed driver needs no replay, it derives what is missing from the store.
"""

import json
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from geovae.tracking import without_password
from tuning.plan import Configuration, Run, State
from tuning.space import Scored

T = TypeVar("T")
SOURCE = ("mlflow.user", "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit")


class RunStore:
    """The runs below one parent run, such as a sweep's; they are found by the tag `group`, which holds `parent_id`."""

    def __init__(self, uri: str, experiment_id: str, parent_id: str, group: str = "sweep") -> None:
        import mlflow

        self.client = mlflow.MlflowClient(uri)
        self.uri, self.experiment_id, self.parent_id = uri, experiment_id, parent_id
        self._group, self._query = group, f"tags.{group} = '{parent_id}'"
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="mlflow")
        self._pending: set[Future[Any]] = set()
        self._stop_retries = False
        self._unconfirmed: set[str] = set()  # names of runs whose creation got no answer yet
        self._inherited: dict[str, str] | None = None

    def submit(self, function: Callable[..., T], *arguments: Any, **options: Any) -> "Future[T]":
        """Queue a call for the writer thread, which retries it until the store answers; return its future."""
        future = self._writer.submit(self._retry, partial(function, *arguments, **options))
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def flush(self, timeout: float) -> bool:
        """Wait for all queued calls, for at most `timeout` seconds; return whether all were made. Ends the writer."""
        late = wait(set(self._pending), timeout).not_done  # of a copy: finished calls leave the set meanwhile
        self._stop_retries = bool(late)
        self._writer.shutdown(wait=not late, cancel_futures=True)
        return not late

    def _retry(self, function: Callable[[], T]) -> T:
        from mlflow.exceptions import MlflowException

        pause, warned = 0.5, False
        while True:
            try:
                return function()
            except MlflowException as error:
                # below 500 the store rejected the request: a retry changes nothing
                if error.get_http_status_code() < 500 or self._stop_retries:
                    raise
                if not warned:
                    warnings.warn("the tracking store does not answer; running trials go on, new ones start later")
                warned = True
            time.sleep(pause)
            pause = min(5.0, 2 * pause)

    def start_run(self, name: str, parent: str | None, tags: Mapping[str, object]) -> str:
        """Create a run below `parent` (by default the parent run) and return its id; names are unique in the sweep.

        A request without an answer may still have created the run, so a retry looks for it first.
        """
        if name in self._unconfirmed:
            found = self._search(f"{self._query} and attributes.run_name = '{name}'")
            if found:
                return str(found[0].info.run_id)
        self._unconfirmed.add(name)  # before the request: the store may create the run and its answer be lost
        keys = {self._group: self.parent_id, "mlflow.parentRunId": parent or self.parent_id} | self._source()
        texts = {key: str(value) for key, value in {**keys, **tags}.items()}
        run = self.client.create_run(self.experiment_id, tags=texts, run_name=name)
        self._unconfirmed.discard(name)
        return str(run.info.run_id)

    def _source(self) -> dict[str, str]:
        """Return the tags that say who started the parent from what: its children came from there, too."""
        if self._inherited is None:
            tags = self.client.get_run(self.parent_id).data.tags
            self._inherited = {key: tags[key] for key in SOURCE if key in tags}
        return self._inherited

    def reopen_run(self, run_id: str) -> str:
        """Set a run to RUNNING again and return its id."""
        self.client.update_run(run_id, status="RUNNING")
        if "stop_reason" in self.client.get_run(run_id).data.tags:  # it would pass for stopped at its end, too
            self.client.delete_tag(run_id, "stop_reason")
        return run_id

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, object] = MappingProxyType({}),
        tags: Mapping[str, object] = MappingProxyType({}),
        metrics: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Log parameters, tags and metrics (at step 0) of a run."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        self.client.log_batch(
            run_id,
            params=[Param(key, str(value)) for key, value in params.items()],
            tags=[RunTag(key, str(value)[:5000]) for key, value in tags.items()],  # older servers refuse longer values
            metrics=[Metric(key, value, now, 0) for key, value in metrics.items()],
        )

    def end_run(self, run_id: str, state: State, **last: Any) -> None:
        """Log the `last` tags and metrics of a run, as `log` does, and end it."""
        if any(last.values()):
            self.log(run_id, **last)
        # for MLflow a run that the scheduler stopped has finished; the tag `stop_reason` distinguishes them
        self.client.set_terminated(run_id, "FINISHED" if state == "STOPPED" else state)

    def read_configurations(self) -> list[Configuration]:
        """Return the configurations of the sweep with their runs, up to the first number that is missing."""
        found: dict[int, Configuration] = {}
        runs = self._search(self._query)
        for run in runs:
            if run.data.tags.get("role") == "configuration":
                number, options = _number(run), json.loads(run.data.tags["options"])
                found.setdefault(number, Configuration(number, options, {}, run.info.run_id))
        for run in runs:
            if run.data.tags.get("role") == "seed" and (number := _number(run)) in found:
                one = _from_mlflow(run)
                found[number].runs.setdefault(int(run.data.tags["sweep.seed"]), one)
                found[number].changed |= one.changed
        # nothing after a gap, where a driver died before it had created a run: numbers follow the search's proposals
        numbers = sorted(found)
        return [found[n] for n in numbers if numbers[: n + 1] == list(range(n + 1))]

    def run_ids(self) -> dict[str, str]:
        """Return the ids of the runs by name."""
        return {run.info.run_name: run.info.run_id for run in self._search(self._query)}

    def metric_history(self, run_id: str, key: str) -> list[tuple[int, float]]:
        """Return the points of a metric as (step, value)."""
        # by step: an epoch that was repeated after a crash is recorded twice
        return sorted({point.step: point.value for point in self.client.get_metric_history(run_id, key)}.items())

    def end_orphans(self, configurations: Sequence[Configuration]) -> None:
        """End runs that are still RUNNING, and delete duplicates that requests without an answer left behind."""
        known = {c.run_id for c in configurations} | {r.run_id for c in configurations for r in c.runs.values()}
        for run in self._search(self._query):
            if run.data.tags.get("role") not in ("configuration", "seed"):
                continue  # the sweep's own run, and the one that trained a model for it
            # KILLED: a resume ends what its dead driver left, duplicates included
            if run.info.run_id not in known and run.info.status in ("RUNNING", "KILLED"):
                self.client.delete_run(run.info.run_id)
            elif run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")

    def _search(self, query: str) -> list[Any]:
        return search_all(self.client, self.experiment_id, query)


def search_all(client: Any, experiment_id: str, query: str) -> list[Any]:
    """Return all runs that a search finds, the oldest first."""
    found: list[Any] = []
    token, order = None, ["attributes.start_time ASC"]
    while True:  # the store answers in pages, and returns no more than 1000 runs without a token
        page = client.search_runs([experiment_id], query, max_results=1000, page_token=token, order_by=order)
        found += page
        if not (token := page.token):
            return found


def _number(run: Any) -> int:
    return int(run.data.tags["configuration"].removeprefix("c"))


def _from_mlflow(run: Any) -> Run:
    """Return the outcome of a seed's run as MLflow has it."""
    tags, metrics = run.data.tags, run.data.metrics
    state: State = run.info.status if run.info.status in ("FINISHED", "FAILED", "KILLED") else "RUNNING"
    if state == "FINISHED" and tags.get("stop_reason"):
        state = "STOPPED"
    score = metrics.get(f"best/{tags['headline']}") if "headline" in tags else None
    if state == "FINISHED" and score is None:  # the run ended, but its last records did not arrive: repeat it
        state = "KILLED"
    changed = json.loads(tags.get("changed", "{}"))
    # `score/<sampler>/<score>` are those of all samplers, `score/<score>` those of the best
    test = {key.removeprefix("score/"): value for key, value in metrics.items() if re.fullmatch("score/[^/]+", key)}
    novelty = metrics.get(f"val_score/{tags.get('best_sampler')}/code_novelty")
    return Run(
        run.info.run_id, state, score, tags.get("failure", ""), changed=changed, test_scores=test, novelty=novelty
    )


def find_sweep(client: Any, sweep_id: str) -> Any:
    """Return the MLflow run of a sweep.

    Raises:
        FileNotFoundError: if there is no run of that id, or it is no sweep.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(sweep_id)
    except MlflowException as error:
        store = without_password(client.tracking_uri)
        raise FileNotFoundError(f"no sweep {sweep_id!r} in the tracking store {store}") from error
    if run.data.tags.get("role") != "sweep":
        raise FileNotFoundError(f"run {sweep_id} is no sweep: give the id of a run with the tag role=sweep")
    return run


def find_configurations(client: Any, sweep_id: str) -> list[Scored]:
    """Return options and mean score of the judged configurations of a sweep, for the warm start of another.

    Raises:
        FileNotFoundError: if there is no such sweep, or none of its configurations was judged.
    """
    run = find_sweep(client, sweep_id)
    runs = RunStore(client.tracking_uri, run.info.experiment_id, sweep_id)
    found = [(c.options, c.mean) for c in runs.read_configurations() if c.scores]
    if not found:
        raise FileNotFoundError(f"sweep {sweep_id} has no configuration with a score to start from")
    return found
