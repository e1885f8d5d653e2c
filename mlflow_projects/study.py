"""`mlflow run . -e study -P name=table1 -P size=small`: a table or figure of the paper, resumable, ending in a report.

Runs that this study has finished before in this MLflow experiment are found by the fingerprint of their configuration,
and not repeated; they become children of the newest run of the study. Interrupted runs resume.
"""

import fcntl
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import Config, Options, fingerprint
from experiments.describe import describe_run, writable
from experiments.judge import MODEL
from experiments.page import run_url
from experiments.studies.cells import TRAINED, Study
from experiments.studies.execute import Found, execute
from experiments.studies.oasis import make_ready
from experiments.studies.plan import read_study
from experiments.studies.study_report import write_report
from experiments.tables import for_terminal
from geovae.checks import check_count
from geovae.data import DATASETS
from geovae.tracking import MlflowTracker
from mlflow_projects import entry
from mlflow_projects.cluster import Cluster, reached, settle
from mlflow_projects.registry.versions import fetch_model
from mlflow_projects.registry.views import study_view
from tuning.execute import Failure, Task
from tuning.execute import execute as execute_on_ray
from tuning.nodes import Resources
from tuning.progress import Progress
from tuning.storage import Storage

if TYPE_CHECKING:
    from mlflow.entities import Run

FOLDER = entry.RUNS / "studies"


def main(
    options: Options,
    name: str = "",
    size: str = "small",
    seeds: int | None = None,
    data: list[str] | None = None,
    output: Path | None = None,
    cluster: Cluster = Cluster(address=""),
) -> None:
    """Execute a study: a table or figure of the paper.

    Runs come one after the other in this process; with an `address` as many at once as a Ray cluster holds. All other
    options are those of every run: `python -m mlflow_projects.train --help` lists them.

    Args:
        options: of every run.
        name: of a shipped study, or a YAML file.
        size: full, small or ci.
        seeds: how many, in place of the study's number.
        data: names of the data to keep, with commas.
        output: folder where the report is also written.
        cluster: where the runs run.
    """
    if seeds is not None:
        check_count(seeds=seeds)
    study = read_study(name, size, options, only=data or [], seeds=seeds or 0)
    configs = [config for cell in study.cells for config in cell.configs.values()]
    make_ready(study, _say)
    check_data(configs)
    folder = writable(FOLDER / study.name)
    with only_one(folder), entry.open_run(f"{study.name}-{study.size}") as tracker:
        tracker.tags({"role": "study", "study": study.name, "size": study.size, "host": socket.gethostname()})
        ledger = MlflowLedger(study.name, tracker)
        ledger.end_abandoned()
        failed = run_on_ray(study, ledger, folder, cluster) if cluster.address else {}
        outcomes, failures = execute(study, ledger, folder, say=_say, failed=failed)
        if not outcomes:
            raise RuntimeError(f"none of the study's runs has a result: {next(iter(failures.values()))}")
        target = writable(output or tracker.output / "report")
        url = partial(run_url, tracker.uri, str(tracker.experiment_id))
        report = write_report(study, outcomes, target, failures, url)
        for file in report.files:
            tracker.artifact(target / file, file.parent.as_posix())
        tracker.tags({"mlflow.note.content": report.summary})
        print(for_terminal(report.summary))
        samplers = list(dict.fromkeys(name for one in outcomes for name in one.samplers))
        view = partial(study_view, study=study.name, headline=outcomes[0].headline, samplers=samplers)
        entry.say_where(view, tracker)
    print(f"report: {report.html}    run: {tracker.run_id}")
    if failures:
        raise SystemExit(1)


def run_on_ray(study: Study, ledger: "MlflowLedger", folder: Path, cluster: Cluster) -> dict[str, str]:
    """Run on a Ray cluster what is not finished: first the trainings, then the variants drawn from their models.

    Returns the reasons of failed runs by their names.
    """
    trainings, drawings = {}, {}
    with reached(cluster) as resources:
        storage = settle(cluster.storage or str(folder.absolute()), ledger.tracker)
        for cell in study.cells:
            digest = fingerprint(cell.configs[TRAINED])
            if ledger.find(digest) is None:
                trainings[cell.name] = Task(cell.configs[TRAINED], folder=digest, tags=ledger.tags(cell=cell.name))
        failures = _all(trainings, ledger, storage, resources)
        for cell in study.cells:
            if cell.name in failures:
                continue
            trained = ledger.find(fingerprint(cell.configs[TRAINED]))
            for variant, config in cell.configs.items():
                digest = fingerprint(config)
                if variant != TRAINED and ledger.find(digest) is None:
                    model = _model_on_storage(trained, fingerprint(cell.configs[TRAINED]), storage, ledger)
                    tags = ledger.tags(cell=cell.name, variant=variant)
                    drawings[cell.run_name(variant)] = Task(config, model_file=model, folder=digest, tags=tags)
        return failures | _all(drawings, ledger, storage, resources)


def _model_on_storage(trained: Found | None, digest: str, storage: str, ledger: "MlflowLedger") -> str:
    """Return where a trained model is on the storage; it is uploaded if it was trained elsewhere."""
    files = Storage(storage)
    if not files.exists(f"{digest}/{MODEL}"):
        assert trained is not None
        assert trained.run_id is not None
        files.upload(digest, ledger.model_file(trained.run_id))
    return f"{storage}/{digest}/{MODEL}"


def _all(tasks: Mapping[str, Task], ledger: "MlflowLedger", storage: str, resources: Resources) -> dict[str, str]:
    if not tasks:
        return {}
    progress = Progress(len(tasks))
    outcomes = execute_on_ray(tasks, ledger.tracker, storage=storage, resources=resources, on_event=progress)
    progress.show()
    return {name: outcome.reason for name, outcome in outcomes.items() if isinstance(outcome, Failure)}


def check_data(configs: Sequence[Config]) -> None:
    """Load every data set once: a missing file is found now, not after hours."""
    seen = []
    for config in configs:
        options = {key: value for key, value in config["data"].items() if key != "name"}
        if (config["data"]["name"], options) not in seen:
            seen.append((config["data"]["name"], options))
            DATASETS[config["data"]["name"]](**options)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a study's folder: two processes would write the same checkpoints.

    Raises:
        PermissionError: if another process of this machine holds it.
    """
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise PermissionError(f"study {folder.name!r} already runs here, as process {lock.read()}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


class MlflowLedger:
    """The runs of one study in the experiment of its parent run `tracker`."""

    def __init__(self, study: str, tracker: MlflowTracker) -> None:
        import mlflow

        self._study, self.tracker = study, tracker
        self._client = mlflow.MlflowClient()

    def find(self, digest: str) -> Found | None:
        """Return the finished run with the fingerprint `digest`, and make it a child of this study's run."""
        for run in self._search(f"tags.config = '{digest}' and attributes.status = 'FINISHED'"):
            if self.tracker.run_id is not None:
                self._client.set_tag(run.info.run_id, "mlflow.parentRunId", self.tracker.run_id)
            return Found(run.info.run_id, run.data.metrics)
        return None

    def model_file(self, run_id: str) -> Path:
        """Fetch the model file of a run."""
        return fetch_model(run_id)

    def tags(self, **more: object) -> dict[str, object]:
        """Return the tags by which a run of this study is known."""
        return {"role": "cell", "study": self._study, **more}

    @contextmanager
    def open(self, name: str, config: Config, tags: Mapping[str, object]) -> Iterator[MlflowTracker]:
        """Start a child, described like every run."""
        with self.tracker.child(name, self.tags(**tags)) as child:
            describe_run(name, config, child)
            try:
                yield child
            except Exception as error:
                child.tags({"failure": " ".join(str(error).split())})
                raise

    def end_abandoned(self) -> None:
        """End as KILLED the runs that a killed process of this machine left RUNNING.

        No other process runs this study here: `only_one` holds the lock.
        """
        here = f"tags.host = '{socket.gethostname()}' and attributes.status = 'RUNNING'"
        for parent in self._search(here):
            if parent.info.run_id != self.tracker.run_id:
                children = f"tags.mlflow.parentRunId = '{parent.info.run_id}' and attributes.status = 'RUNNING'"
                for run in [*self._search(children), parent]:
                    self._client.set_terminated(run.info.run_id, "KILLED")

    def _search(self, query: str) -> "list[Run]":
        experiments = [self.tracker.experiment_id or ""]
        return list(self._client.search_runs(experiments, f"tags.study = '{self._study}' and {query}"))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    entry.main(main)
