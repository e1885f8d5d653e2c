"""The options of the Riemannian sampler: presets by name, and the ranges checked before anything is computed."""

import inspect
import math
from collections.abc import Callable
from typing import Any

# Section 5 and the published code, with the density of the paper and a correct acceptance step.
PUBLISHED: dict[str, Any] = {
    "centroids": "published",
    "n_centroids": 100,
    "temperature": "published",
    "temperature_scale": 1.0,
    "n_transitions": 100,
    "n_leapfrog": 10,
    "step_size": 0.01,
    "mass": "unit",
    "start": "codes",
}
PRESETS: dict[str, dict[str, Any]] = {
    "published": PUBLISHED,
    # The same trajectories as the published code, whose momentum has standard deviation 0.5 at unit mass: it settles at
    # the density to the power 4, and its step of 0.01 is one of 0.005 in units of that density.
    "published-code": PUBLISHED | {"step_size": 0.005, "sharpness": 4.0},
}

CHOICES = {
    "centroids": ("kmeans", "all", "random", "first", "published"),
    "temperature": ("coverage", "likelihood", "published"),
    "start": ("covered", "codes", "centroids"),
    "mass": ("posterior", "unit"),
}
POSITIVE = ("temperature_scale", "floor", "sharpness")
COUNTS = {"n_centroids": 1, "n_transitions": 0, "n_leapfrog": 1, "n_jumps": 0, "seed": 0}


def resolve_preset(preset: str | None, given: dict[str, Any], signature: Callable[..., Any]) -> dict[str, Any]:
    """Return the options `given`, those at the default of `signature` replaced by the preset's."""
    if preset is None:
        return given
    if preset not in PRESETS:
        raise ValueError(f"`preset` must be one of {', '.join(PRESETS)}, got {preset!r}")
    defaults = {name: p.default for name, p in inspect.signature(signature).parameters.items()}
    replaced = {name: value for name, value in PRESETS[preset].items() if given[name] == defaults[name]}
    return {**given, **replaced}


def check_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return `options` if every one is in its range.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, allowed in CHOICES.items():
        if isinstance(options[name], str) and options[name] not in allowed:
            raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {options[name]!r}")
    for name in POSITIVE:
        _check_positive(name, options[name])
    for name in ("temperature", "step_size"):
        if isinstance(options[name], int | float):
            _check_positive(name, options[name])
    for name, least in COUNTS.items():
        if options[name] is not None and options[name] < least:
            raise ValueError(f"`{name}` must be at least {least}, got {options[name]}")
    if options["seed"] >= 2**32:
        raise ValueError(f"`seed` must be below 2^32, got {options['seed']}")
    if not 0 <= options["decay"] < math.inf:
        raise ValueError(f"`decay` must be 0 or positive, got {options['decay']}")
    if not 0 < options["coverage"] <= 1:
        raise ValueError(f"`coverage` must lie in (0, 1], got {options['coverage']}")
    if not 0 < options["target_acceptance"] < 1:
        raise ValueError(f"`target_acceptance` must lie in (0, 1), got {options['target_acceptance']}")
    return options


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be positive and finite, got {value}")
