"""Moving the alias `champion`: a candidate is compared with the champion, and one promotion happens at a time.

MLflow has no compare-and-swap for aliases: the last writer wins. Only the creation of a name is atomic. The lock is
therefore a registered model called `<name>-promotion`, which exists during a promotion.
"""

import getpass
import json
import math
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from geovae.saved_model import load_model
from mlflow_projects.registry.evidence import Evidence, Rules, gather
from mlflow_projects.registry.versions import CHAMPION, NAME, PREVIOUS, fetch_model, register

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

PATIENCE = 60.0  # seconds to wait for the lock
LOCK = "A promotion by"  # how the description of a lock begins
MOVE = "move"  # the lock's tag that notes the move under way
HOLDER = "holder"  # the lock's tag that names the process


@dataclass(frozen=True)
class Candidate:
    """A run that may become champion, its evidence, and its registered version if it has one."""

    run: "Run"
    evidence: Evidence
    version: "ModelVersion | None"


@dataclass(frozen=True)
class Champion:
    """The version that has the alias, and its evidence if there is any."""

    version: "ModelVersion"
    evidence: Evidence | None

    def __str__(self) -> str:
        return f"version {self.version.version}{f' ({self.evidence})' if self.evidence else ''}"


@dataclass(frozen=True)
class Verdict:
    """The outcome: reasons against the candidate, the candidate with its version, and the champion before."""

    reasons: list[str]
    candidate: Candidate
    champion: Champion | None
    moved: bool

    @property
    def word(self) -> str:
        """The outcome in one word or two."""
        return "refused" if self.reasons else "moved" if self.moved else "would move"

    def sentences(self, name: str = NAME) -> list[str]:
        """Return the outcome in words."""
        champion, evidence = self.champion, self.candidate.evidence
        if self.reasons:
            stays = f"{champion} stays {CHAMPION}" if champion else f"{name} stays without a {CHAMPION}"
            return [f"{stays}; the candidate is refused:", *(f"  - {reason}" for reason in self.reasons)]
        if not self.moved or self.candidate.version is None:
            place = f" in place of {champion}" if champion else ""
            return [f"the candidate ({evidence}) would become {CHAMPION}{place}"]
        number, before = self.candidate.version.version, f"; {champion} is {PREVIOUS} now" if champion else ""
        return [f"version {number} ({evidence}) is the {CHAMPION} now: models:/{name}@{CHAMPION}{before}"]


def find_candidate(client: "MlflowClient", name: str, what: str, rules: Rules) -> Candidate:
    """Return the candidate that `what` names: a version (`3`, `models:/geovae/3`), a run, or a parent of many runs.

    Of a sweep, the best run by the sweep's own ranking. Of another parent, the best run of the best configuration: the
    one with the most seeds, among equals the one with the lowest mean score.

    Raises:
        ValueError: if there is none, or it has no scores.
    """
    from mlflow.exceptions import MlflowException

    number = re.fullmatch(rf"(?:models:/{re.escape(name)}/)?(\d{{1,9}})", what)
    run_id = re.fullmatch(r"(?:runs:/)?([0-9a-f]{32})/?", what)
    try:
        if number is not None:
            version = client.get_model_version(name, number[1])
            run = client.get_run(str(version.run_id))
            return Candidate(run, gather(client, run, rules), version)
        if run_id is not None:
            run = _best_below(client, client.get_run(run_id[1]), rules)
            versions = [v for v in client.search_model_versions(f"name = '{name}'") if v.run_id == run.info.run_id]
            newest = max(versions, key=lambda v: int(v.version), default=None)
            return Candidate(run, gather(client, run, rules), newest)
    except MlflowException as error:
        raise ValueError(f"no candidate {what!r}: {' '.join(str(error).split())}") from error
    raise ValueError(f"no candidate {what!r}: give a run id, the id of a parent run, or a version of {name} such as 3")


def _best_below(client: "MlflowClient", parent: "Run", rules: Rules) -> "Run":
    """Return the best finished run below `parent`, or `parent` itself if there is none."""
    if parent.data.tags.get("best_run"):
        return client.get_run(parent.data.tags["best_run"])
    configurations: dict[str, list[Run]] = {}
    for run in _runs_below(client, parent):
        if run.info.status == "FINISHED" and "best_sampler" in run.data.tags:
            configurations.setdefault(run.data.tags.get("config_over_seeds", run.info.run_id), []).append(run)
    ranked: list[tuple[int, float, float, Run]] = []
    for runs in configurations.values():
        evidence = gather(client, runs[0], rules)
        scored = [(run.data.metrics.get(f"best/{evidence.headline}", math.inf), run) for run in runs]
        score, best = min(scored, key=lambda pair: pair[0])
        ranked.append((-len({run.data.tags.get("seed") for run in runs}), evidence.mean, score, best))
    return min(ranked, key=lambda entry: entry[:3])[3] if ranked else parent


def _runs_below(client: "MlflowClient", parent: "Run") -> Iterator["Run"]:
    """Yield all descendants of a run: those of a sweep lie two levels below it."""
    query = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    for run in client.search_runs([parent.info.experiment_id], query, max_results=50_000):
        yield run
        yield from _runs_below(client, run)


def promote(
    client: "MlflowClient",
    candidate: Candidate,
    rules: Rules,
    *,
    name: str = NAME,
    why: str = "",
    dry_run: bool = False,
    patience: float = PATIENCE,
) -> Verdict:
    """Make the candidate champion if the rules allow it; the champion is read, compared and replaced under a lock."""
    if dry_run:
        champion = _judged_champion(client, name, rules)
        return Verdict(_reasons(candidate, champion, rules), candidate, champion, moved=False)
    with lock(client, name, patience):
        champion = _judged_champion(client, name, rules)
        reasons = _reasons(candidate, champion, rules)
        if reasons:
            return Verdict(reasons, candidate, champion, moved=False)
        version = candidate.version or register(candidate.run.info.run_id, candidate.evidence, name)
        _check_it_draws(f"models:/{name}/{version.version}")
        why = why or f"{candidate.evidence}{f' against {champion}' if champion else ''}"
        _move_alias(client, name, version, champion.version if champion else None, why)
        return Verdict([], Candidate(candidate.run, candidate.evidence, version), champion, moved=True)


def register_and_promote(run_id: str, name: str) -> None:
    """Register the model of a finished run, promote it if it is better than the champion, and print what came of it."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client, rules = MlflowClient(), Rules()
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.get_http_status_code() < 500:  # the store rejected the request; from 500 on it is down
            raise
        print("Not registered: the tracking store does not answer. Once it does: python -m mlflow_projects.sync")
        return
    evidence = gather(client, run, rules)
    version = register(run_id, evidence, name)
    verdict = promote(client, Candidate(run, evidence, version), rules, name=name)
    print(f"Registered as {name} version {version.version}.", *verdict.sentences(name), sep="\n")


def _judged_champion(client: "MlflowClient", name: str, rules: Rules) -> Champion | None:
    """Return the champion with all that is known of it now: runs with more seeds since its registration count too.

    If its run was deleted, the evidence is that of the version's tags.
    """
    from mlflow.exceptions import MlflowException

    version = version_with_alias(client, name)
    if version is None:
        return None
    try:
        return Champion(version, gather(client, client.get_run(str(version.run_id)), rules))
    except (MlflowException, ValueError):
        return Champion(version, Evidence.from_tags(version.tags))


def _reasons(candidate: Candidate, champion: Champion | None, rules: Rules) -> list[str]:
    """Return why the candidate must not become champion."""
    if champion is None:
        return rules.refusals(candidate.evidence, None)
    number = champion.version.version
    if candidate.run.info.run_id == champion.version.run_id:
        return [f"version {number} is this run's model: it is the champion already"]
    if champion.evidence is None:
        return [
            f"the champion, version {number}, has no scores, so that nothing compares with it; take the alias "
            f"{CHAMPION} from it in the registry to start again"
        ]
    return rules.refusals(candidate.evidence, champion.evidence)


def version_with_alias(client: "MlflowClient", name: str, alias: str = CHAMPION) -> "ModelVersion | None":
    """Return the version that has the alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


@torch.no_grad()
def _check_it_draws(uri: str) -> None:
    """Load the registered model and draw from it, before the alias moves to it."""
    saved = load_model(fetch_model(uri))
    images = saved.model.decode(saved.sampler().sample(2, torch.Generator().manual_seed(0)).float())
    if not images.isfinite().all():
        raise ValueError(f"{uri} draws images that are not finite: it was not promoted")


def _move_alias(client: "MlflowClient", name: str, to: "ModelVersion", before: "ModelVersion | None", why: str) -> None:
    """Set both aliases, and tag both versions with user, time and reason; the lock on `name` is held.

    The lock notes the move first: if this process dies at any moment after that, `unlock` finishes it.
    """
    tags = {"by": _user(), "at": datetime.now(UTC).isoformat(timespec="seconds"), "why": why}
    move = {"to": str(to.version), "before": str(before.version) if before else None, "tags": tags}
    client.set_registered_model_tag(f"{name}-promotion", MOVE, json.dumps(move))
    _make_move(client, name, move)
    client.delete_registered_model_tag(f"{name}-promotion", MOVE)
    # read it back: the UI moves aliases without the lock, and the last writer wins
    if (now := version_with_alias(client, name)) is None or now.version != to.version:
        raise ValueError(f"another user moved the alias {CHAMPION} of {name} at the same time: check the registry")


def _make_move(client: "MlflowClient", name: str, move: dict[str, Any]) -> None:
    """Make a move that the lock has noted, or what is left of it: every step may be made twice."""
    to, before, tags = move["to"], move["before"], move["tags"]
    for key, value in (tags | {"replaced": before or "none"}).items():
        client.set_model_version_tag(name, to, f"promoted.{key}", value)
    # at no moment do both aliases name one version
    if (previous := version_with_alias(client, name, PREVIOUS)) is not None and str(previous.version) == to:
        client.delete_registered_model_alias(name, PREVIOUS)
    client.set_registered_model_alias(name, CHAMPION, to)
    if before is not None:
        for key, value in (tags | {"replaced_by": to}).items():
            client.set_model_version_tag(name, before, f"demoted.{key}", value)
        client.set_registered_model_alias(name, PREVIOUS, before)


def roll_back(
    client: "MlflowClient", name: str = NAME, *, why: str = "", dry_run: bool = False, patience: float = PATIENCE
) -> str:
    """Give the alias back to the previous champion, and return a sentence on it. A second call undoes the first.

    Raises:
        ValueError: if there is no previous champion.
    """
    with lock(client, name, patience):
        champion, previous = version_with_alias(client, name), version_with_alias(client, name, PREVIOUS)
        if previous is None or (champion is not None and champion.version == previous.version):
            raise ValueError(f"{name} has no {PREVIOUS} champion to go back to")
        now = f"version {champion.version}" if champion is not None else ""
        if dry_run:
            return f"version {previous.version} would be {CHAMPION} again{f' in place of {now}' if now else ''}"
        _move_alias(client, name, previous, champion, why or "rolled back")
    before = f"; {now} is {PREVIOUS} now" if now else ""
    return f"version {previous.version} is the {CHAMPION} again: models:/{name}@{CHAMPION}{before}"


@contextmanager
def lock(client: "MlflowClient", name: str, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock on the alias of `name`, after waiting for its holder.

    Raises:
        TimeoutError: after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while not _try_lock(client, f"{name}-promotion"):
        if _unlock_if_dead(client, name):
            continue
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"another promotion of {name} is under way (the registered model {name}-promotion is its lock); if "
                f"its process is dead, delete the lock: python -m mlflow_projects.promote --name {name} --unlock true"
            )
        time.sleep(0.2)
    try:
        yield
    finally:  # also where a signal or a store error stopped the move half way
        unlock(client, name)


def _try_lock(client: "MlflowClient", model: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        description = f"{LOCK} {_user()}. Deleted when it ends."
        client.create_registered_model(model, tags={HOLDER: _this_process()}, description=description)
    except MlflowException as error:
        if error.error_code == "RESOURCE_ALREADY_EXISTS":
            return False
        raise
    return True


def _unlock_if_dead(client: "MlflowClient", name: str) -> bool:
    """Finish the promotion of a process of this machine that was killed; return whether it was."""
    with suppress(ValueError):  # the lock is gone meanwhile, or is a user's model
        place, _, pid = _read_lock(client, name).tags.get(HOLDER, "").rpartition(" ")
        if place and place == _this_process().rpartition(" ")[0] and not Path(f"/proc/{pid}").exists():
            unlock(client, name)
            return True
    return False


def _this_process() -> str:
    """Return this boot of this machine, its namespace of process ids, and this process; nothing where no /proc is."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')} {os.getpid()}"
    except OSError:
        return ""


def unlock(client: "MlflowClient", name: str = NAME) -> None:
    """Remove the lock that a killed promotion left, after finishing the move that it had begun.

    Raises:
        ValueError: if there is none, or if a model of that name is no lock.
    """
    model = _read_lock(client, name)
    if MOVE in model.tags:
        _make_move(client, name, json.loads(model.tags[MOVE]))
    client.delete_registered_model(f"{name}-promotion")


def _read_lock(client: "MlflowClient", name: str) -> "RegisteredModel":
    """Return the lock on `name`, or raise a ValueError if there is none, or a user's model that is called so."""
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(f"{name}-promotion")
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the latter for `a/b:c`
            raise
        raise ValueError(f"no promotion of {name[:100]} is under way") from error
    if model.latest_versions or not (model.description or "").startswith(LOCK):
        raise ValueError(f"{name}-promotion is a registered model and no lock of a promotion: it stays as it is")
    return model


def _user() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user may have no name
        return f"?@{socket.gethostname()}"
