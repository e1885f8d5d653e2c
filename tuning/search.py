"""Which configuration is tried next: Optuna (TPE), random draws, every point of a grid, or a given list.

Why Optuna itself and not Ray's `OptunaSearch`: that one gives every trial to the search as a configuration of its own,
so scores could not be means over seeds, and its state resumes from a pickle. Here Ray only asks for the next trial.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from experiments.config import Options
from tuning.space import Space, SpaceError

Method = Literal["optuna", "random", "grid"]


class Listed:
    """Proposes the configurations of a list, with Optuna's ask-and-tell interface."""

    def __init__(self, points: Sequence[Options]) -> None:
        self.points = list(points)
        self.asked = 0

    def ask(self, known: Options | None = None) -> Options | None:
        """Return the next configuration's options, None after the last; `known` are options that were asked before."""
        self.asked += 1
        return self.points[self.asked - 1] if self.asked <= len(self.points) else None

    def tell(self, number: int, score: float | None) -> None:
        """Ignore the score of configuration `number`: the list is fixed."""


class Sampled:
    """Proposes `trials` configurations of `space` chosen by Optuna; dimensions of kind `grid` cycle through theirs.

    The method `optuna` is the tree-structured Parzen estimator, which learns from the scores. A resumed search needs
    another `seed`, or it would propose its first configurations again. `earlier` are options and scores of another
    sweep's configurations, for a warm start.
    """

    def __init__(
        self, space: Space, *, method: Method, trials: int, seed: int, earlier: Sequence[tuple[Options, float]] = ()
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=seed)
        if method == "optuna":
            # trials run at once: the constant liar keeps Optuna from proposing what is running already
            startup = min(10, max(1, trials // 3))
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)
        self.space, self.trials = space, trials
        self.study = optuna.create_study(sampler=sampler)
        self._asked: list[optuna.Trial] = []
        self._grid = space.grid("grid")
        self.warm_started = sum(self._add(options, score) for options, score in earlier)

    def ask(self, known: Options | None = None) -> Options | None:
        """Return the next configuration's options, None after the last; `known` are options that were asked before."""
        if len(self._asked) >= self.trials and known is None:
            return None
        given = known if known is not None else self._grid[len(self._asked) % len(self._grid)]
        if given:
            self.study.enqueue_trial(given)  # Optuna chooses the options that are not given
        trial = self.study.ask()
        self._asked.append(trial)
        return self.space.suggest(trial)

    def tell(self, number: int, score: float | None) -> None:
        """Record the score of configuration `number`, lower is better; None if it failed or was stopped."""
        from optuna.trial import TrialState

        self.study.tell(self._asked[number], score, TrialState.FAIL if score is None else None)

    def _add(self, options: Options, score: float) -> bool:
        """Add a configuration of another sweep if it lies in this space; return whether it was added."""
        from optuna.trial import create_trial

        active = [d for d in self.space.dimensions if d.active(self.space.fixed | options)]
        ranges = {d.name: d.distribution() for d in active}
        if ranges.keys() != options.keys() or not all(_holds(ranges[name], v) for name, v in options.items()):
            return False
        self.study.add_trial(create_trial(params=dict(options), distributions=ranges, value=score))
        return True


Search = Listed | Sampled


def build_search(
    space: Space, method: Method, *, trials: int, seed: int, earlier: Sequence[tuple[Options, float]] = ()
) -> Search:
    """Return the search; a grid search proposes at most the first `trials` of its points.

    Raises:
        SpaceError: for a grid search over a range.
    """
    if method == "grid":
        if ranges := [d.name for d in space.dimensions if d.kind not in ("choice", "grid")]:
            raise SpaceError(f"search=grid needs lists of values, but {ranges[0]} has a range; use `choice` or `grid`")
        return Listed(space.grid("choice", "grid")[:trials])
    return Sampled(space, method=method, trials=trials, seed=seed, earlier=earlier)


def importances(rows: Sequence[tuple[Mapping[str, Any], float]], space: Space) -> dict[str, float]:
    """Return the fraction of the scores' variance that each option explains (fANOVA, Hutter et al. 2014).

    `rows` are options and scores. {} if there are fewer than four configurations, or none of the options varies.
    """
    import optuna

    search = Sampled(space, method="random", trials=0, seed=0, earlier=[(dict(o), s) for o, s in rows])
    # fANOVA fits a forest: to three points it fits anything, and without variance there are no shares
    if search.warm_started < 4 or len({score for _, score in rows}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        found = optuna.importance.get_param_importances(search.study, evaluator=evaluator)
    except (RuntimeError, ValueError):  # no option that all configurations share, or none that varies
        return {}
    return {name: float(value) for name, value in found.items()}


def _holds(distribution: Any, value: Any) -> bool:
    try:
        inside: bool = distribution._contains(distribution.to_internal_repr(value))
    except (ValueError, TypeError):
        return False
    return inside
