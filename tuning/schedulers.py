"""Ray's schedulers for a sweep: ASHA, which stops trials early, and population based training."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining, TrialScheduler

from tuning.plan import Configuration
from tuning.runs import RunStore
from tuning.space import Space
from tuning.worker import SCHEDULED


def build_asha(epochs: int, grace: int, reduction: int) -> ASHAScheduler:
    """Return asynchronous successive halving (Li et al. 2020) over the epochs of a training.

    From epoch `grace` on trials may be stopped; at each rung 1/`reduction` of them go on.
    """
    return ASHAScheduler(
        time_attr="epoch",
        metric=SCHEDULED,
        mode="min",
        max_t=epochs + 1,  # Ray stops a trial at `max_t`, and the model is judged after the last epoch
        grace_period=grace,
        reduction_factor=reduction,
    )


def replay(scheduler: TrialScheduler, configurations: Sequence[Configuration], runs: RunStore, watched: str) -> None:
    """Give a new scheduler the results of the trials of a sweep that is resumed, so that it compares with them."""
    for configuration in configurations:
        first = configuration.runs.get(0)
        if first is None or first.run_id is None:
            continue
        trial: Any = SimpleNamespace(trial_id=f"{configuration.name}-before")  # ASHA reads only the id
        controller: Any = None
        scheduler.on_trial_add(controller, trial)
        for epoch, value in runs.metric_history(first.run_id, watched):
            scheduler.on_trial_result(controller, trial, {"epoch": epoch, SCHEDULED: value})


class Population(PopulationBasedTraining):
    """Population based training (Jaderberg et al. 2017) on the engine's trials."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add a trial to the population.

        Ray refuses a search algorithm beside population based training: it would get scores for options that have
        changed since. The engine's search is only a queue that no scores reach, so it is hidden here.
        """
        without_search: Any = SimpleNamespace(search_alg=None)  # the only attribute that is read
        super().on_trial_add(without_search, trial)

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> Any:
        config, operations = super()._get_new_config(trial, trial_to_clone)
        return config | {"task": trial.config["task"]}, operations  # the other member's options, but not its MLflow run


def build_population(space: Space, every: int) -> Population:
    """Return population based training that mutates the searched options every so many epochs."""
    return Population(
        time_attr="epoch",
        metric=SCHEDULED,
        mode="min",
        perturbation_interval=every,
        hyperparam_mutations=_mutations(space),
        log_config=False,
    )


def _mutations(space: Space) -> dict[str, Any]:
    """Return Ray's distribution of each searched option."""
    found: dict[str, Any] = {}
    for dimension in space.dimensions:
        if dimension.kind in ("choice", "grid"):
            found[dimension.name] = list(dimension.values)
            continue
        low, high = dimension.values
        log = dimension.kind == "log_uniform"
        if dimension.whole:
            found[dimension.name] = (tune.lograndint if log else tune.randint)(low, high + 1)
        else:
            found[dimension.name] = (tune.loguniform if log else tune.uniform)(low, high)
    return found
