"""Checks of options and tensors: each raises a ValueError that names the value and the rule."""

import importlib
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

SHOWN = 60  # letters of a value

if TYPE_CHECKING:  # `geovae.mri` checks its options without torch, which would slow down the start of its workers
    from torch import Tensor


class ListedProblems(ValueError):
    """An error whose message is a list, a line for each problem."""


def shown(value: object) -> str:
    """Return a value as an error message shows it: the start of a long one."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} letters)"


def check_positive(**values: float) -> None:
    """Raise a ValueError unless every value is above 0 and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:  # written so that NaN fails too, here and below
            raise ValueError(f"`{name}` must be positive and finite, got {value}")


def check_not_negative(**values: float) -> None:
    """Raise a ValueError unless every value is 0 or more and finite."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"`{name}` must be 0 or more and finite, got {value}")


def check_share(**values: float) -> None:
    """Raise a ValueError unless every value lies in (0, 1]."""
    for name, value in values.items():
        if not 0 < value <= 1:
            raise ValueError(f"`{name}` must lie in (0, 1], got {value}")


def check_count(*, low: int = 1, **values: int) -> None:
    """Raise a ValueError unless every value is a whole number of at least `low`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < low:  # a bool is an int in Python
            raise ValueError(f"`{name}` must be a whole number of at least {low}, got {shown(value)}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise a ValueError unless `value` is one of `choices`."""
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {shown(value)}")


def check_finite(**tensors: "Tensor") -> None:
    """Raise a ValueError unless every tensor is free of NaN and infinity."""
    for name, values in tensors.items():
        if not values.isfinite().all():
            raise ValueError(f"`{name}` must be finite, got NaN or infinity")


def check_fields(where: str, values: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Raise a ValueError unless each field has its type; one whose type admits None may be missing."""
    for name, kind in kinds.items():
        value = values.get(name)
        if not isinstance(value, kind):
            expected = getattr(kind, "__name__", str(kind))
            found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:50]!r}"
            raise ValueError(f"{where} must hold `{name}` of type {expected}, got {found}")


def check_seed(seed: int) -> None:
    """Raise a ValueError unless `seed` is a whole number in [0, 2^32), the range of NumPy and scikit-learn."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"`seed` must be a whole number in [0, 2^32), got {shown(seed)}")


def import_class(name: str, target: str) -> Any:
    """Return what `target`, "package.module:Class", names; `name` is the option that holds it.

    Raises:
        ValueError: if it is written in another way, or cannot be imported.
    """
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise ValueError(f"`{name}` must read 'package.module:Class', got {target!r}")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"`{name}` {target!r} cannot be imported: {error}; PYTHONPATH names the folders of modules"
        ) from error
