"""How a sweep searches and judges, and what is checked of it before Ray is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from experiments.config import Config
from geovae.checks import check_count
from geovae.data import DATASETS
from geovae.models import build_model
from tuning.plan import check_rounds
from tuning.search import Method
from tuning.space import Space, SpaceError, config_in

Schedule = Literal["none", "asha", "pbt"]


@dataclass(frozen=True)
class Settings:
    """How a sweep searches and judges; a sweep cannot be resumed with others.

    Args:
        search: who proposes configurations.
        trials: configurations, at most.
        seeds: runs of a configuration in each round.
        reduction: the best 1/`reduction` of a round enter the next.
        scheduler: none, `asha` (stops trials early) or `pbt` (population based training).
        grace: ASHA's first epoch at which a trial may be stopped.
        halving: ASHA's reduction factor.
        every: epochs between two exchanges of the population.
        watched: the metric of an epoch that the scheduler compares.
        seed: of the search.
    """

    search: Method = "optuna"
    trials: int = 20
    seeds: tuple[int, ...] = (3,)
    reduction: int = 3
    scheduler: Schedule = "none"
    grace: int = 5
    halving: int = 3
    every: int = 5
    watched: str = "val/loss"
    seed: int = 0

    def check(self) -> None:
        """Raise a ValueError for a value out of its range."""
        check_count(trials=self.trials, grace=self.grace, every=self.every)
        check_count(low=2, halving=self.halving)
        check_rounds(self.seeds, self.reduction)
        if self.scheduler == "pbt" and self.seeds != (1,):
            reason = "changes runs while they train, so that no other seed can repeat them"
            raise ValueError(f"`scheduler` pbt {reason}: set `seeds` to 1, got {list(self.seeds)}")


def check_population(space: Space, options: Mapping[str, Any]) -> None:
    """Raise a SpaceError if an option changes the shapes of weights: they are copied between members."""
    corner = space.corners()[0]
    shapes = _weight_shapes(config_in(space, options, corner))
    for dimension in space.dimensions:
        for value in dimension.values:
            if _weight_shapes(config_in(space, options, corner | {dimension.name: value})) != shapes:
                remedy = f"set it, {dimension.name}={corner[dimension.name]}"
                reason = f"copies weights between runs, and {dimension.name} changes their shapes"
                raise SpaceError(f"scheduler=pbt {reason}; {remedy}")


def _weight_shapes(config: Config) -> dict[str, Any]:
    shape = DATASETS[config["data"]["name"]].image_shape or (1, 32, 32)
    options = {key: value for key, value in config["model"].items() if key != "name"}
    with torch.device("meta"):  # shapes without memory
        model = build_model(config["model"]["name"], shape, **options)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
