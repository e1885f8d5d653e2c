"""`mlflow run . -e promote`: hold a run, a sweep or a version against the champion; move the alias if it is better."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from mlflow_projects import entry
from mlflow_projects.evidence import Rules
from mlflow_projects.promotion import find, promote, roll_back, sentences, unlock
from mlflow_projects.registry import NAME

SWITCHES = ("dry_run", "rollback", "unlock")


def main(flags: Sequence[str]) -> None:
    """Promote `--candidate` (a run id, the id of a parent run, or a version) to `champion` of the model `--name`.

    It is refused, with the reasons, unless its headline score on validation images, averaged over the runs that differ
    in the seed alone, is lower than the champion's by more than `--min_improvement` (a part of 1) and, with several
    seeds on both sides, by more than the noise; both must have the same score, extractor, n and data. It needs
    `--min_seeds` seeds, at most a part `--max_divergences` of diverged chains, at least `--min_acceptance`, no warning
    of its sampler, and a memorisation ratio of at least `--min_nearest`. `--why` is kept in the version's tags.
    `--dry_run true` only says what would happen. `--rollback true` gives the alias back to the previous champion.
    `--unlock true` removes the lock of a promotion that was killed. Exit code 0: moved (or would be); 3: refused.
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
    if not values["candidate"] and not (on["rollback"] or on["unlock"]):
        raise ValueError("give --candidate: a run id, the id of a parent run, or a version; or --rollback true")
    client, name = mlflow.MlflowClient(), values["name"]
    if on["unlock"]:
        unlock(client, name)
        print(f"the lock on {name} is removed")
    elif on["rollback"]:
        now, before = roll_back(client, name, why=values["why"])
        print(f"version {now} is the champion again; version {before} is previous now")
    else:
        candidate = find(client, name, values["candidate"], rules)
        with entry.open_run("promote") as tracker:
            tracker.tags({"role": "promotion"})
            verdict = promote(client, candidate, rules, name=name, why=values["why"], dry_run=on["dry_run"])
            said = "\n".join(sentences(verdict, name))
            tracker.tags({"mlflow.note.content": said, "candidate": candidate.run.info.run_id})
        print(said)
        if verdict.reasons:
            raise SystemExit(3)


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
