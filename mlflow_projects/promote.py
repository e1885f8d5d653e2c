"""`mlflow run . -e promote`: hold a run, a sweep or a version against the champion; move the alias if it is better."""

from dataclasses import asdict

from geovae.checks import check_not_negative
from mlflow_projects import entry
from mlflow_projects.registry import promotion
from mlflow_projects.registry.evidence import Rules
from mlflow_projects.registry.promotion import find_candidate, promote, roll_back
from mlflow_projects.registry.versions import NAME


def main(
    candidate: str = "",
    name: str = NAME,
    why: str = "",
    rollback: bool = False,
    unlock: bool = False,
    dry_run: bool = False,
    rules: Rules = Rules(),
) -> None:
    """Promote a candidate to `champion` of a registered model.

    It is refused, with the reasons, unless its headline score on validation images, averaged over the runs that differ
    in the seed alone, is lower than the champion's by more than `min_improvement` (a part of 1) and by more than the
    noise: over seeds, or with one seed that of its samples. Both must have the same score, extractor, n and data. It
    needs `min_seeds` seeds, at most a part `max_divergences` of diverged chains, at least `min_acceptance`, no warning
    of its sampler, a memorisation ratio of at least `min_nearest` in pixels and `min_novelty` in codes. Exit code 3: it
    was refused.

    Args:
        candidate: a run id, the id of a parent run, or a version.
        name: of the registered model.
        why: is kept in the version's tags.
        rollback: give the alias back to the previous champion.
        unlock: remove the lock of a promotion that was killed.
        dry_run: only print what would happen.
        rules: what a candidate must fulfil.

    Examples:
        python -m mlflow_projects.promote --candidate RUN_ID --dry_run true
        python -m mlflow_projects.promote --rollback true
    """
    import mlflow

    check_not_negative(**asdict(rules))
    if bool(candidate) + rollback + unlock != 1:
        raise ValueError(
            "give one of --candidate (a run id, the id of a parent run, or a version), --rollback true, --unlock true"
        )
    client = mlflow.MlflowClient()
    if unlock:
        promotion.unlock(client, name)
        _record("unlocked", f"the lock on {name} is removed")
    elif rollback:
        text = roll_back(client, name, why=why, dry_run=dry_run)
        _record("would roll back" if dry_run else "rolled back", text)
    else:
        chosen = find_candidate(client, name, candidate, rules)
        verdict = promote(client, chosen, rules, name=name, why=why, dry_run=dry_run)
        code = 3 if verdict.reasons else 0  # scripts distinguish a refusal from bad input
        _record(verdict.word, "\n".join(verdict.sentences(name)), code=code, candidate=chosen.run.info.run_id)


def _record(verdict: str, text: str, *, code: int = 0, **tags: str) -> None:
    """Print what was done, record it as a run, and exit with `code`: these runs are the history of the alias."""
    print(text)
    with entry.open_run("promote") as tracker:
        tracker.tags({"role": "promotion", "verdict": verdict, "mlflow.note.content": text, **tags})
        if code:
            raise SystemExit(code)


if __name__ == "__main__":
    entry.main(main)
