"""Which configuration is tried next: Optuna (TPE), random draws, every point of a grid, or a list given before."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from tuning.space import Options, Space, SpaceError

Method = Literal["optuna", "random", "grid"]


class Search(Protocol):
    """Proposes the searched options of one configuration after the other, and hears what they were worth."""

    def ask(self, known: Options | None = None) -> Options | None:
        """Return the next configuration's options, None after the last; `known` takes the place of a choice."""

    def tell(self, number: int, score: float | None) -> None:
        """Hear the score of configuration `number`, lower is better; None if it failed or was stopped."""


class Listed:
    """Proposes the configurations of a list."""

    def __init__(self, points: Sequence[Options]) -> None:
        self.points = list(points)
        self.asked = 0

    def ask(self, known: Options | None = None) -> Options | None:
        """Return the next point of the list."""
        self.asked += 1
        return self.points[self.asked - 1] if self.asked <= len(self.points) else None

    def tell(self, number: int, score: float | None) -> None:
        """Nothing depends on it."""


class Sampled:
    """Proposes `trials` configurations that Optuna chooses; dimensions of kind `grid` take every value in turn.

    Args:
        space: where to search.
        method: `optuna` for the tree-structured Parzen estimator, which learns from the scores, or `random`.
        trials: how many configurations.
        seed: of the choices; a search that goes on gets another than the one it started with.
        earlier: options and scores of another sweep's configurations, to start from.
    """

    def __init__(
        self,
        space: Space,
        *,
        method: Literal["optuna", "random"],
        trials: int,
        seed: int,
        earlier: Sequence[tuple[Options, float]] = (),
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = {
            "optuna": lambda: optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=min(10, max(1, trials // 3)), constant_liar=True
            ),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        }[method]()
        self.space, self.trials = space, trials
        self.study = optuna.create_study(sampler=sampler)
        self._asked: list[optuna.Trial] = []
        self._grid = space.grid("grid")
        self.warm_started = sum(self._add(options, score) for options, score in earlier)

    def ask(self, known: Options | None = None) -> Options | None:
        """Return the next configuration's options."""
        if len(self._asked) >= self.trials and known is None:
            return None
        set_before = known if known is not None else self._grid[len(self._asked) % len(self._grid)]
        if set_before:
            self.study.enqueue_trial(set_before)
        trial = self.study.ask()
        self._asked.append(trial)
        return self.space.suggest(trial)

    def tell(self, number: int, score: float | None) -> None:
        """Hear a score, or that there is none."""
        from optuna.trial import TrialState

        if score is None:
            self.study.tell(self._asked[number], state=TrialState.FAIL)
        else:
            self.study.tell(self._asked[number], score)

    def _add(self, options: Options, score: float) -> bool:
        """Add a configuration of another sweep if it lies in this space; return whether it does."""
        from optuna.trial import create_trial

        active = [d for d in self.space.dimensions if d.active(self.space.fixed | options)]
        ranges = {d.name: d.distribution() for d in active}
        if ranges.keys() != options.keys() or not all(_holds(ranges[name], v) for name, v in options.items()):
            return False
        self.study.add_trial(create_trial(params=dict(options), distributions=ranges, value=score))
        return True


def build_search(
    space: Space, method: Method, *, trials: int, seed: int, earlier: Sequence[tuple[Options, float]] = ()
) -> Search:
    """Return the search; a grid has as many configurations as it has points, and takes no more than `trials` of them.

    Raises:
        SpaceError: for a grid search over a range.
    """
    if method == "grid":
        if ranges := [d.name for d in space.dimensions if d.kind not in ("choice", "grid")]:
            raise SpaceError(f"search=grid needs lists of values, but {ranges[0]} has a range; use `choice` or `grid`")
        return Listed(space.grid("choice", "grid")[:trials])
    return Sampled(space, method=method, trials=trials, seed=seed, earlier=earlier)


def importances(rows: Sequence[tuple[Mapping[str, Any], float]], space: Space) -> dict[str, float]:
    """Return how much of the scores' variation each option explains (fANOVA), as parts of 1; {} where none can be told.

    Args:
        rows: options and score of the configurations that were judged.
        space: the space they come from.
    """
    import optuna

    whole = Sampled(space, method="random", trials=0, seed=0, earlier=[(dict(o), s) for o, s in rows])
    if whole.warm_started < 4 or len({score for _, score in rows}) < 2:
        return {}
    try:
        found = optuna.importance.get_param_importances(
            whole.study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    except (RuntimeError, ValueError):  # no option that all configurations share, or none that varies
        return {}
    return {name: float(value) for name, value in found.items()}


def _holds(distribution: Any, value: Any) -> bool:
    try:
        inside: bool = distribution._contains(distribution.to_internal_repr(value))
    except (ValueError, TypeError):
        return False
    return inside
