"""`mlflow run . -e study -P name=table1 -P size=small`: a table or figure of the paper, resumable, ending in a report.

Runs that a study has finished before in this MLflow experiment are found by the fingerprint of their configuration, and
not repeated: studies share their models. Those of this study move below its newest run. Interrupted runs resume.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import Config, Options, fingerprint
from experiments.describe import describe_run, writable
from experiments.help import run_url
from experiments.judge import MODEL
from experiments.run import check_data
from experiments.studies.cells import TRAINED, Cell, Study
from experiments.studies.execute import Found, Outcome, execute
from experiments.studies.oasis import make_ready
from experiments.studies.plan import read_study
from experiments.studies.study_report import write_report
from experiments.tables import for_terminal
from geovae.checks import check_count
from geovae.files import lock_file
from geovae.tracking import MlflowTracker
from mlflow_projects import entry
from mlflow_projects.cluster import Cluster, reached, run_tasks, settle
from mlflow_projects.registry.versions import fetch_model
from mlflow_projects.registry.views import study_view
from tuning.plan import Failure, Task
from tuning.runs import search_all
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
        size: full, medium, small or ci.
        seeds: how many, in place of the study's number.
        data: names of the data to keep, with commas; the first word stands for all sizes of a data set.
        output: folder where the report is also written.
        cluster: where the runs run.

    Examples:
        python -m mlflow_projects.study --name table1 --size small
        python -m mlflow_projects.study --name figure1 --address local
    """
    if seeds is not None:
        check_count(seeds=seeds)
    study = read_study(name, size, options, only=data or [], seeds=seeds or 0)
    configs = [config for cell in study.cells for config in cell.configs.values()]
    report_progress = partial(print, flush=True)  # a log file shows each run when it ends
    make_ready(study, report_progress)
    check_data(configs)
    if output is not None:
        writable(output)  # before hours of work, not after them
    folder = writable(FOLDER / study.name)
    with only_one(folder), entry.open_run(f"{study.name}-{study.size}") as tracker:
        tracker.tags({"role": "study", "study": study.name, "size": study.size})
        ledger = MlflowLedger(study.name, tracker)
        ledger.adopt_finished(configs)
        failed = run_on_ray(study, ledger, folder, cluster) if cluster.address else {}
        outcomes, failures = execute(study, ledger, folder, report_progress=report_progress, failed=failed)
        if not outcomes:  # a report of nothing would hide the reason
            raise RuntimeError(f"none of the study's runs has a result: {next(iter(failures.values()))}")
        # in the tracker's folder unless the user asks for another: no study overwrites the report of an earlier one
        page = report_on(study, outcomes, failures, writable(output or tracker.output / "report"), tracker)
        print(f"report: {page}    run: {tracker.run_id}")
        if failures:
            raise SystemExit(1)


def report_on(
    study: Study, outcomes: list[Outcome], failures: dict[str, str], folder: Path, tracker: MlflowTracker
) -> Path:
    """Write the report into `folder`, track and summarise it, and return its page."""
    url = partial(run_url, tracker.uri, str(tracker.experiment_id))
    report = write_report(study, outcomes, folder, failures, url)
    for file in report.files:
        tracker.artifact(folder / file, file.parent.as_posix())
    tracker.tags({"mlflow.note.content": report.summary})
    print(for_terminal(report.summary))
    samplers = list(dict.fromkeys(name for one in outcomes for name in one.samplers))
    view = partial(study_view, study=study.name, headline=outcomes[0].headline, samplers=samplers)
    entry.show_view(view, tracker)
    return report.html


def run_on_ray(study: Study, ledger: "MlflowLedger", folder: Path, cluster: Cluster) -> dict[str, str]:
    """Run the configurations without a finished run on a Ray cluster; return the reasons of failed runs by their names.

    Trainings come first, since the variants draw from the models that they leave.
    """
    waiting = {
        cell.run_name(variant): (cell, variant)
        for cell in study.cells
        for variant, config in cell.configs.items()
        if ledger.find(fingerprint(config)) is None
    }
    failures: dict[str, str] = {}
    with reached(cluster) as resources:
        storage = settle(cluster.storage or str(folder.absolute()), ledger.tracker)
        for trains in (True, False):
            tasks = {
                name: _task(cell, variant, storage, ledger)
                for name, (cell, variant) in waiting.items()
                if (variant == TRAINED) == trains and cell.name not in failures
            }
            outcomes = run_tasks(tasks, ledger.tracker, storage, resources) if tasks else {}
            failures |= {name: end.reason for name, end in outcomes.items() if isinstance(end, Failure)}
    return failures


def _task(cell: Cell, variant: str, storage: str, ledger: "MlflowLedger") -> Task:
    config, digest = cell.configs[variant], fingerprint(cell.configs[TRAINED])
    if variant == TRAINED:
        return Task(config, folder=digest, tags=ledger.tags(cell=cell.name))
    files = Storage(storage)
    if not files.exists(f"{digest}/{MODEL}"):  # trained in this process, or on another storage
        trained = ledger.find(digest)
        assert trained is not None
        assert trained.run_id is not None
        files.upload(digest, ledger.model_file(trained.run_id))
    tags = ledger.tags(cell=cell.name, variant=variant)
    return Task(config, model_file=f"{storage}/{digest}/{MODEL}", folder=fingerprint(config), tags=tags)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Lock a study's folder: two processes would write the same checkpoints.

    Raises:
        PermissionError: if another process of this machine holds it.
    """
    with (folder / "lock").open("a+") as lock:  # "w" would erase the process id of who holds it
        try:
            lock_file(lock)
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
        """Return the newest finished run of a study whose configuration has the fingerprint `digest`."""
        found = self._finished(digest)
        return None if found is None else Found(found.info.run_id, found.data.metrics)

    def adopt_finished(self, configs: Sequence[Config]) -> None:
        """Make this study's finished runs of these configurations children of the parent run."""
        for config in configs:
            found = self._finished(fingerprint(config))
            own = found is not None and found.data.tags.get("study") == self._study
            # without a run id the parent is not in the store yet: the runs stay below the earlier parent
            if found is not None and own and self.tracker.run_id is not None:
                self._client.set_tag(found.info.run_id, "mlflow.parentRunId", self.tracker.run_id)

    def model_file(self, run_id: str) -> Path:
        """Fetch the model file of a run."""
        return fetch_model(run_id)

    def tags(self, **more: object) -> dict[str, object]:
        """Return the tags of a run of this study."""
        return {"role": "cell", "study": self._study, **more}

    @contextmanager
    def open(self, name: str, config: Config, tags: Mapping[str, object]) -> Iterator[MlflowTracker]:
        """Start a child, described like every run."""
        with self.tracker.child(name, self.tags(**tags)) as child:
            describe_run(name, config, child)
            try:
                yield child
            except Exception as error:  # the same tag as that of a run that failed on a cluster
                child.tags({"failure": " ".join(str(error).split())})
                raise

    def _finished(self, digest: str) -> "Run | None":
        query = f"tags.role = 'cell' and tags.config = '{digest}' and attributes.status = 'FINISHED'"
        runs = search_all(self._client, self.tracker.experiment_id or "", query)
        return runs[-1] if runs else None


if __name__ == "__main__":
    entry.main(main)
