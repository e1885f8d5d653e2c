"""`mlflow run . -e promote`: hold a run, a sweep or a version against the champion; move the alias if it is better."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from mlflow_projects import entry
from mlflow_projects.registry.evidence import Rules
from mlflow_projects.registry.promotion import find, promote, roll_back, sentences, unlock
from mlflow_projects.registry.versions import NAME

SWITCHES = ("dry_run", "rollback", "unlock")


def main(flags: Sequence[str]) -> None:
    """Promote `--candidate` (a run id, the id of a parent run, or a version) to `champion` of the model `--name`.

    It is refused, with the reasons, unless its headline score on validation images, averaged over the runs that differ
    in the seed alone, is lower than the champion's by more than `--min_improvement` (a part of 1) and, with several
    seeds on both sides, by more than the noise; both must have the same score, extractor, n and data. It needs
    `--min_seeds` seeds, at most a part `--max_divergences` of diverged chains, at least `--min_acceptance`, no warning
    of its sampler, and a memorisation ratio of at least `--min_nearest`. `--why` is kept in the version's tags.
    `--rollback true` gives the alias back to the previous champion. With `--dry_run true` either only says what would
    happen. `--unlock true` removes the lock of a promotion that was killed. Exit code 3: it was refused.
    """
    import mlflow

    defaults = {f.name: str(f.default) for f in fields(Rules)}
    values, rest = entry.take_flags(
        flags, candidate="", name=NAME, why="", **dict.fromkeys(SWITCHES, "false"), **defaults
    )
    entry.refuse(rest, list(values), main.__doc__ or "")
    on = {name: entry.yes(name, values[name]) for name in SWITCHES}
    numbers: dict[str, Any] = {f.name: _number(f.name, values[f.name], type(f.default)) for f in fields(Rules)}
    rules = Rules(**numbers)
    if bool(values["candidate"]) + on["rollback"] + on["unlock"] != 1:
        raise ValueError(
            "give one of --candidate (a run id, the id of a parent run, or a version), --rollback true, --unlock true"
        )
    client, name = mlflow.MlflowClient(), values["name"]
    if on["unlock"]:
        unlock(client, name)
        _record("unlocked", f"the lock on {name} is removed")
    elif on["rollback"]:
        said = roll_back(client, name, why=values["why"], dry_run=on["dry_run"])
        _record("would roll back" if on["dry_run"] else "rolled back", said)
    else:
        candidate = find(client, name, values["candidate"], rules)
        verdict = promote(client, candidate, rules, name=name, why=values["why"], dry_run=on["dry_run"])
        _record(verdict.word, "\n".join(sentences(verdict, name)), candidate=candidate.run.info.run_id)
        if verdict.reasons:
            raise SystemExit(3)


def _record(verdict: str, said: str, **tags: str) -> None:
    """Print what was done, and keep it as a run of its own: the history of the alias."""
    print(said)
    with entry.open_run("promote") as tracker:
        tracker.tags({"role": "promotion", "verdict": verdict, "mlflow.note.content": said, **tags})


def _number(name: str, text: str, kind: type) -> float:
    try:
        value: float = kind(text)
    except ValueError:
        raise ValueError(f"`{name}` must be a number, got {text!r}") from None
    if not value >= 0:
        raise ValueError(f"`{name}` must be at least 0, got {text}")
    return value


if __name__ == "__main__":
    entry.main(main)
