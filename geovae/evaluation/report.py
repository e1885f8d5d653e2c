"""The outcome of an evaluation: a flat dictionary of numbers and all that is needed to make them again, as JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

# two reports with the same values of these compare; anything else measured something else
COMPARABLE_ON = ("extractors", "n", "eight_bit", "real")


@dataclass(frozen=True)
class Report:
    """What `evaluate` found.

    `values` are flat and ready for a tracker; `settings` say what was measured on what; `notes` are remarks in words;
    `curve` holds the PRD curve's `precision` and `recall`; `nearest` holds, for the first samples, the index of the
    nearest image (in pixels) of each set that was given (`train`, `reconstructions`).
    """

    values: dict[str, float]
    settings: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    curve: dict[str, list[float]] = field(default_factory=dict)
    nearest: dict[str, list[int]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the report as strict JSON; a number that is NaN or infinite becomes its name."""
        return json.dumps(_plain(asdict(self)), indent=2, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Return the report that `to_json` wrote."""
        parts = json.loads(text)
        if not isinstance(parts, dict) or not {"values", "settings"} <= parts.keys():
            raise ValueError("this is not the JSON of a report: it has no `values` and `settings`")
        try:
            parts["values"] = {key: float(value) for key, value in parts["values"].items()}
            return cls(**parts)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"this is not the JSON of a report: {error}") from error


def differences(a: Report, b: Report) -> list[str]:
    """Return in words why the numbers of `a` and `b` do not compare; an empty list where they do."""
    pairs = ((key, a.settings.get(key), b.settings.get(key)) for key in COMPARABLE_ON)
    return [f"`{key}` is {_short(x)} against {_short(y)}" for key, x, y in pairs if x != y]


def rank(reports: Mapping[str, Report], key: str, *, larger_is_better: bool = False) -> list[tuple[str, float]]:
    """Return the names of `reports` with their value of `key`, best first.

    Raises:
        ValueError: where two reports differ in extractor, n, rounding or reference images, or one has no `key`.
    """
    if not reports:
        raise ValueError("there is no report to rank")
    first_name, first = next(iter(reports.items()))
    for name, report in reports.items():
        why = differences(first, report)
        if why:
            raise ValueError(f"{first_name!r} and {name!r} do not compare: {'; '.join(why)}")
        if key not in report.values:
            raise ValueError(f"{name!r} has no {key!r}; it has {', '.join(sorted(report.values))}")
    values = [(name, report.values[key]) for name, report in reports.items()]
    return sorted(values, key=lambda pair: -pair[1] if larger_is_better else pair[1])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _short(value: Any) -> str:
    text = json.dumps(_plain(value), sort_keys=True)
    return text if len(text) <= 120 else text[:117] + "..."
