"""Runs whose processes were killed: what they left is delivered, and they end as KILLED.

A process has the lock of its outbox until it dies, and its outbox lies on disk before its run is created: whatever the
moment of the kill, the next process of the same folder finds it. MLflow itself knows no dead runs. A run that others
created for a process (`mlflow run`) is claimed when the process starts, since it is opened much later.
"""

import atexit
import json
import os
import platform
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from geovae.files import atomic_path, remove_partial
from geovae.tracking.delivery import ADDRESS, read_address, sync, without_password
from geovae.tracking.outbox import claim, is_alive, release, remove_empty

if TYPE_CHECKING:
    from mlflow import MlflowClient


def claim_run(root: Path, run_id: str, tracking_uri: str) -> None:
    """Claim for this process a run that its parent created: if it dies before opening it, `end_abandoned` ends the run.

    A process that ends without opening it leaves no trace, unless its parent, which would end the run, is gone.
    """
    folder, parent = root.absolute() / run_id / "outbox", os.getppid()

    def give_up() -> None:
        if os.getppid() == parent and release(folder):
            for empty in (folder.parent, folder.parents[1]):
                with suppress(OSError):
                    empty.rmdir()

    atexit.register(give_up)
    claim(folder)
    address = {"tracking_uri": without_password(tracking_uri), "run_id": run_id, "ends": True, "host": platform.node()}
    with atomic_path(folder / ADDRESS) as temporary:
        temporary.write_text(json.dumps(address))


def end_abandoned(root: Path, tracking_uri: str) -> None:
    """Deliver what dead processes left in outboxes below `root`; end their runs, and those below them, as KILLED.

    Outboxes of living processes, other machines and other stores stay; so do those that cannot be delivered, with a
    warning.
    """
    for folder in sorted(lock.parent for lock in root.rglob("outbox*/lock")):
        try:
            _end(folder, tracking_uri)
        except (BlockingIOError, FileNotFoundError):  # another process delivers it
            pass
        except Exception as error:  # whatever a store raises: one bad outbox must not keep this process from its work
            reason = " ".join(str(error).split())[:200]
            remedy = f"`geovae.tracking.sync({str(folder)!r})` delivers them once the store answers"
            warnings.warn(f"records of a dead process wait: {reason}; {remedy}")


def _end(folder: Path, tracking_uri: str) -> None:
    from mlflow import MlflowClient

    address = read_address(folder / ADDRESS)
    if is_alive(folder) is not False:
        return
    if not address or not (folder / "records.jsonl").exists():
        remove_empty(folder)
        return
    # locks of network file systems need not hold between machines
    if (address.get("host"), address["tracking_uri"]) != (platform.node(), without_password(tracking_uri)):
        return
    remove_partial(folder.parent)
    if address.get("ends") and address.get("run_id"):  # first: once the records are delivered, nothing leads here
        _end_below(MlflowClient(tracking_uri), address["run_id"])
    sync(folder, tracking_uri)


def _end_below(client: "MlflowClient", run_id: str) -> None:
    """End the runs below a run: they belong to workers, which have died with their driver."""
    experiment = client.get_run(run_id).info.experiment_id
    running = f"tags.mlflow.parentRunId = '{run_id}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment], running):
        _end_below(client, run.info.run_id)
        client.set_terminated(run.info.run_id, "KILLED")
