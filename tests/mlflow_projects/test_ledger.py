"""The ledger of a study: finding a run changes nothing, and only the study's finished runs move below its parent."""

from types import SimpleNamespace

import pytest

from experiments.config import fingerprint, parse_options, resolve
from mlflow_projects.study import MlflowLedger


@pytest.fixture
def ledger(store):
    parent = store.client.create_run(store.experiment, tags={"study": "table1"}).info.run_id
    return MlflowLedger("table1", SimpleNamespace(run_id=parent, experiment_id=store.experiment))


def parent_of(store, run_id):
    return store.client.get_run(run_id).data.tags.get("mlflow.parentRunId")


def test_finding_changes_nothing_and_adopting_moves_what_is_found(store, ledger):
    config = resolve(parse_options(["--dataset=digits"]))
    tags = {"study": "table1", "config": fingerprint(config)}
    older, newer = (store.run(score, parent="before", tags=tags) for score in (3.0, 2.0))
    other_study = store.run(1.0, parent="before", tags=tags | {"study": "figure3"})
    running = store.run(1.0, parent="before", tags=tags)
    store.client.update_run(running, status="RUNNING")

    found = ledger.find(fingerprint(config))
    assert (found.run_id, found.metrics["best/fd_pixels"]) == (newer, 2.0)
    assert ledger.find("no such digest") is None
    assert {parent_of(store, run) for run in (older, newer, other_study, running)} == {"before"}

    ledger.adopt_finished([config, config | {"seed": 7}])
    assert parent_of(store, newer) == ledger.tracker.run_id
    assert {parent_of(store, run) for run in (older, other_study, running)} == {"before"}
