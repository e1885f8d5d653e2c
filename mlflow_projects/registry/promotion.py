"""Moving the alias `champion`: a candidate is held against it on equal terms, and one promotion happens at a time.

MLflow has no compare-and-swap for aliases, the last writer wins. The one thing that it creates atomically is a name:
a registered model called `<name>-promotion` exists while somebody promotes.
"""

import getpass
import math
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import torch

from geovae.samplers import SAMPLERS
from geovae.saved_model import load_model
from mlflow_projects.registry.evidence import Evidence, Rules, gather
from mlflow_projects.registry.versions import CHAMPION, NAME, PREVIOUS, fetch_model, register

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

PATIENCE = 60.0


@dataclass(frozen=True)
class Candidate:
    """A run that wants to be champion, its evidence, and its registered version if it has one."""

    run: "Run"
    evidence: Evidence
    version: "ModelVersion | None"


@dataclass(frozen=True)
class Champion:
    """The version that has the alias, with its evidence where there is any."""

    version: "ModelVersion"
    evidence: Evidence | None

    def __str__(self) -> str:
        return f"version {self.version.version}{f' ({self.evidence})' if self.evidence else ''}"


@dataclass(frozen=True)
class Verdict:
    """What was found: the reasons against the candidate, its version if there is one, and the champion it met."""

    reasons: list[str]
    candidate: Candidate
    champion: Champion | None
    moved: bool

    @property
    def word(self) -> str:
        """The outcome in one word or two."""
        return "refused" if self.reasons else "moved" if self.moved else "would move"


def find(client: "MlflowClient", name: str, what: str, rules: Rules) -> Candidate:
    """Return the candidate that `what` names: a version (`3`, `models:/geovae/3`), a run, or a parent of many runs.

    Of a sweep, its best run as the sweep itself has it. Of another parent, the configuration that was run with the most
    seeds, of several the one with the lowest mean score, and of that the best run.

    Raises:
        ValueError: if there is none, or it has no scores.
    """
    from mlflow.exceptions import MlflowException

    number = re.fullmatch(rf"(?:models:/{re.escape(name)}/)?(\d{{1,9}})", what)
    run_id = re.fullmatch(r"(?:runs:/)?([0-9a-f]{32})/?", what)
    if number is None and run_id is None:
        raise ValueError(
            f"no candidate {what!r}: give a run id, the id of a parent run, or a version of {name} such as 3"
        )
    try:
        if number is not None:
            version = client.get_model_version(name, number[1])
            run = client.get_run(str(version.run_id))
            return Candidate(run, gather(client, run, rules), version)
        assert run_id is not None
        run = client.get_run(str(run_id[1]))
    except MlflowException as error:
        raise ValueError(f"no candidate {what!r}: {' '.join(str(error).split())}") from error
    return _of_run(client, name, _best_below(client, run, rules), rules)


def _of_run(client: "MlflowClient", name: str, run: "Run", rules: Rules) -> Candidate:
    versions = [v for v in client.search_model_versions(f"name = '{name}'") if v.run_id == run.info.run_id]
    newest = max(versions, key=lambda v: int(v.version), default=None)
    return Candidate(run, gather(client, run, rules), newest)


def _best_below(client: "MlflowClient", parent: "Run", rules: Rules) -> "Run":
    """Return the best finished run below `parent`, or `parent` itself where there is none."""
    if parent.data.tags.get("best_run"):
        return client.get_run(parent.data.tags["best_run"])
    alike: dict[str, list[Run]] = {}
    waiting = [parent]
    while waiting:
        above = waiting.pop()
        query = f"tags.mlflow.parentRunId = '{above.info.run_id}'"
        children = client.search_runs([above.info.experiment_id], query, max_results=50_000)
        waiting += children
        for run in children:
            if run.info.status == "FINISHED" and "best_sampler" in run.data.tags:
                alike.setdefault(run.data.tags.get("config_over_seeds", run.info.run_id), []).append(run)
    judged: list[tuple[int, float, float, Run]] = []
    for runs in alike.values():
        evidence = gather(client, runs[0], rules)
        own = [(run.data.metrics.get(f"best/{evidence.headline}", math.inf), run) for run in runs]
        score, best = min(own, key=lambda found: found[0])
        judged.append((-len({run.data.tags.get("seed") for run in runs}), evidence.mean, score, best))
    return min(judged, key=lambda found: found[:3])[3] if judged else parent


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
    """Make the candidate champion if the rules allow it; the champion is read, judged and replaced under a lock."""
    if dry_run:
        champion = _judged_champion(client, name, rules)
        return Verdict(_reasons(candidate, champion, rules), candidate, champion, moved=False)
    with only_one(client, name, patience):
        champion = _judged_champion(client, name, rules)
        reasons = _reasons(candidate, champion, rules)
        if reasons:
            return Verdict(reasons, candidate, champion, moved=False)
        version = candidate.version or register(candidate.run.info.run_id, candidate.evidence, name)
        _check_it_draws(f"models:/{name}/{version.version}")
        before = champion.version if champion else None
        _move(client, name, version, before, why or f"{candidate.evidence}{f' against {champion}' if champion else ''}")
        return Verdict([], Candidate(candidate.run, candidate.evidence, version), champion, moved=True)


def _judged_champion(client: "MlflowClient", name: str, rules: Rules) -> Champion | None:
    """Return the champion with all that is known of it now: seeds that were run since it was registered count.

    Where its run is gone, the tags of the version remember what was known then.
    """
    from mlflow.exceptions import MlflowException

    version = champion_of(client, name)
    if version is None:
        return None
    try:
        return Champion(version, gather(client, client.get_run(str(version.run_id)), rules))
    except (MlflowException, ValueError):
        return Champion(version, Evidence.from_tags(version.tags))


def _reasons(candidate: Candidate, champion: Champion | None, rules: Rules) -> list[str]:
    if champion is None:
        return rules.refusals(candidate.evidence, None)
    number = champion.version.version
    if candidate.run.info.run_id == champion.version.run_id:
        return [f"version {number} is this run's model: it is the champion already"]
    if champion.evidence is None:
        return [
            f"the champion, version {number}, has no scores, so that nothing compares with it; take the alias "
            f"{CHAMPION} from it in the registry to begin anew"
        ]
    return rules.refusals(candidate.evidence, champion.evidence)


def champion_of(client: "MlflowClient", name: str, alias: str = CHAMPION) -> "ModelVersion | None":
    """Return the version that has the alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _check_it_draws(uri: str) -> None:
    """Load what the registry holds and draw from it, before anybody relies on it."""
    saved = load_model(fetch_model(uri))
    name = saved.meta["best_sampler"]
    sampler = SAMPLERS[name](**saved.meta["sampler"].get(name, {})).fit(saved.codes)
    with torch.no_grad():
        images = saved.model.decode(sampler.sample(2, torch.Generator().manual_seed(0)))
    if not images.isfinite().all():
        raise ValueError(f"{uri} draws images that are not finite: it was not promoted")


def _move(client: "MlflowClient", name: str, to: "ModelVersion", before: "ModelVersion | None", why: str) -> None:
    """Set both aliases, and tag both versions with who did it, when, and why."""
    number = before.version if before is not None else "none"
    mark = {"by": _who(), "at": datetime.now(UTC).isoformat(timespec="seconds"), "why": why}
    for key, value in (mark | {"replaced": number}).items():
        client.set_model_version_tag(name, to.version, f"promoted.{key}", value)
    if before is not None:
        client.set_registered_model_alias(name, PREVIOUS, before.version)
        for key, value in (mark | {"replaced_by": to.version}).items():
            client.set_model_version_tag(name, before.version, f"demoted.{key}", value)
    client.set_registered_model_alias(name, CHAMPION, to.version)
    now = champion_of(client, name)
    if now is None or now.version != to.version:
        raise ValueError(
            f"somebody else moved the alias {CHAMPION} of {name} meanwhile, past the lock: look at it again"
        )


def roll_back(
    client: "MlflowClient", name: str = NAME, *, why: str = "", dry_run: bool = False, patience: float = PATIENCE
) -> str:
    """Give the alias back to the previous champion, and return a sentence on it. A second call undoes the first.

    Raises:
        ValueError: if there is no previous champion.
    """
    with only_one(client, name, patience):
        champion, previous = champion_of(client, name), champion_of(client, name, PREVIOUS)
        if previous is None or (champion is not None and champion.version == previous.version):
            raise ValueError(f"{name} has no {PREVIOUS} champion to go back to")
        now = f"version {champion.version}" if champion is not None else ""
        if dry_run:
            return f"version {previous.version} would be {CHAMPION} again{f' in place of {now}' if now else ''}"
        _move(client, name, previous, champion, why or "rolled back")
    before = f"; {now} is {PREVIOUS} now" if now else ""
    return f"version {previous.version} is the {CHAMPION} again: models:/{name}@{CHAMPION}{before}"


@contextmanager
def only_one(client: "MlflowClient", name: str, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock on the alias of `name`; wait for whoever holds it.

    Raises:
        TimeoutError: after `patience` seconds.
    """
    lock = f"{name}-promotion"
    deadline = time.monotonic() + patience
    while not _take(client, lock):
        if time.monotonic() > deadline:
            raise TimeoutError(_held(client, name, lock))
        time.sleep(0.2)
    try:
        yield
    finally:
        client.delete_registered_model(lock)


def _take(client: "MlflowClient", lock: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            lock, description=f"A promotion is under way, by {_who()}. Deleted when it ends."
        )
    except MlflowException as error:
        if error.error_code == "RESOURCE_ALREADY_EXISTS":
            return False
        raise
    return True


def _held(client: "MlflowClient", name: str, lock: str) -> str:
    return (
        f"another promotion of {name} is under way (the registered model {lock} is its lock); if whoever holds it is "
        f"gone, delete that: python -m mlflow_projects.promote --name {name} --unlock true"
    )


def unlock(client: "MlflowClient", name: str = NAME) -> None:
    """Remove the lock that a promotion which was killed left.

    Raises:
        ValueError: if there is none.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.delete_registered_model(f"{name}-promotion")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise ValueError(f"no promotion of {name} is under way") from error


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user without a name
        return f"?@{socket.gethostname()}"


def sentences(verdict: Verdict, name: str = NAME) -> list[str]:
    """Return in words what a verdict means."""
    champion, evidence = verdict.champion, verdict.candidate.evidence
    if verdict.reasons:
        stays = f"{champion} stays {CHAMPION}" if champion else f"{name} stays without a {CHAMPION}"
        return [f"{stays}; the candidate is refused:", *(f"  - {reason}" for reason in verdict.reasons)]
    if not verdict.moved:
        place = f" in place of {champion}" if champion else ""
        return [f"the candidate ({evidence}) would become {CHAMPION}{place}"]
    version = verdict.candidate.version
    assert version is not None
    before = f"; {champion} is {PREVIOUS} now" if champion else ""
    return [f"version {version.version} ({evidence}) is the {CHAMPION} now: models:/{name}@{CHAMPION}{before}"]
