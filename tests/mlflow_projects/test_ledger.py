"""The ledger of a study: it finds finished runs of every study, and moves only the study's own below its parent."""

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
    tags = {"role": "cell", "study": "table1", "config": fingerprint(config)}
    older, newer = (store.run(score, parent="before", tags=tags) for score in (3.0, 2.0))
    alone = store.run(1.0, parent="before", tags=tags | {"role": "run"})
    running = store.run(1.0, parent="before", tags=tags)
    store.client.update_run(running, status="RUNNING")

    found = ledger.find(fingerprint(config))
    assert (found.run_id, found.metrics["best/fd_pixels"]) == (newer, 2.0)
    assert ledger.find("no such digest") is None
    assert {parent_of(store, run) for run in (older, newer, alone, running)} == {"before"}

    ledger.adopt_finished([config, config | {"seed": 7}])
    assert parent_of(store, newer) == ledger.tracker.run_id
    assert {parent_of(store, run) for run in (older, alone, running)} == {"before"}


def test_a_run_of_another_study_is_found_and_stays_below_its_own(store, ledger):
    config = resolve(parse_options(["--dataset=digits"]))
    shared = store.run(1.0, parent="figure3", tags={"role": "cell", "study": "figure3", "config": fingerprint(config)})

    assert ledger.find(fingerprint(config)).run_id == shared
    ledger.adopt_finished([config])
    assert parent_of(store, shared) == "figure3"
