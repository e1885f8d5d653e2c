"""Range checks of the models' options: one sentence that names the value and the rule."""

import math
from collections.abc import Sequence


def check_positive(**values: float) -> None:
    """Raise a `ValueError` unless every value is above 0 and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"`{name}` must be positive and finite, got {value}")


def check_not_negative(**values: float) -> None:
    """Raise a `ValueError` unless every value is 0 or more and finite."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"`{name}` must be 0 or more and finite, got {value}")


def check_share(**values: float) -> None:
    """Raise a `ValueError` unless every value lies above 0 and is at most 1."""
    for name, value in values.items():
        if not 0 < value <= 1:
            raise ValueError(f"`{name}` must lie above 0 and be at most 1, got {value}")


def check_counts(**values: int) -> None:
    """Raise a `ValueError` unless every value is at least 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise a `ValueError` unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}")
