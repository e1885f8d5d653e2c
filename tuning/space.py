"""Search spaces as data: a YAML file of dotted option names, each with where its values come from.

fixed: {model.name: rae}                                # what every configuration has
search:
  model.latent_dim: {choice: [8, 16, 32]}               # one of these
  training.learning_rate: {log_uniform: [1e-4, 1e-2]}   # between these, evenly in the logarithm
  model.width: {uniform: [100, 500], step: 100}         # evenly; whole numbers where both ends are whole
  model.penalty_weight: {log_uniform: [1e-6, 1e-3], when: {model.name: rae_gp}}   # only with that choice
  training.batch_size: {grid: [50, 100]}                # every value in turn, the others searched for each
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import Config, Options, resolve
from experiments.run import check_config
from experiments.yaml_file import ConfigError, read_yaml
from geovae.checks import shown

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

SPACES = Path(__file__).parent / "spaces.yaml"
Scored = tuple[Options, float]  # what a configuration sets of the searched options, and its mean score
KINDS = ("choice", "grid", "uniform", "log_uniform")
BOUND = 2.0**63
MOST = 100_000  # combinations of listed values


class SpaceError(ConfigError):
    """A search space that cannot be searched; the message is one sentence for the user."""


@dataclass(frozen=True)
class Dimension:
    """One searched option: `values` of a choice or grid, or the two ends; `when` names the choices it belongs to."""

    name: str
    kind: str
    values: tuple[Any, ...]
    step: float | None
    when: dict[str, tuple[Any, ...]]

    def active(self, options: Mapping[str, Any]) -> bool:
        """Return whether the option exists beside the `options` chosen before it."""
        return all(options.get(name) in allowed for name, allowed in self.when.items())

    def suggest(self, trial: "Trial") -> Any:
        """Let Optuna choose a value."""
        if self.kind in ("choice", "grid"):
            return trial.suggest_categorical(self.name, self.values)
        return (trial.suggest_int if self.whole else trial.suggest_float)(self.name, *self.values, **self._spread())

    def distribution(self) -> "BaseDistribution":
        """Return the values as Optuna's distribution."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind in ("choice", "grid"):
            return CategoricalDistribution(self.values)
        return (IntDistribution if self.whole else FloatDistribution)(*self.values, **self._spread())

    @property
    def whole(self) -> bool:
        """Whether both ends of a range are whole numbers, and so are its values."""
        return all(isinstance(end, int) for end in self.values)

    def _spread(self) -> dict[str, Any]:
        """Return the arguments that Optuna takes beside the ends of a range."""
        return {"log": self.kind == "log_uniform", "step": int(self.step or 1) if self.whole else self.step}


@dataclass(frozen=True)
class Space:
    """A search space: options that every configuration has, and the searched ones in the order of the file."""

    fixed: Options
    dimensions: tuple[Dimension, ...]

    def without(self, names: Sequence[str]) -> "Space":
        """Return the space without these options, which the user sets."""
        fixed = {name: value for name, value in self.fixed.items() if name not in names}
        return replace(self, fixed=fixed, dimensions=tuple(d for d in self.dimensions if d.name not in names))

    def suggest(self, trial: "Trial") -> Options:
        """Return the searched options of one configuration, chosen by Optuna."""
        options: Options = {}
        for dimension in self.dimensions:
            if dimension.active(self.fixed | options):
                options[dimension.name] = dimension.suggest(trial)
        return options

    def grid(self, *kinds: str) -> list[Options]:
        """Return every combination of the dimensions of these kinds; [{}] if there are none."""
        points: list[Options] = [{}]
        self._check_number([d for d in self.dimensions if d.kind in kinds])
        for d in (d for d in self.dimensions if d.kind in kinds):
            choices = [{d.name: value} for value in d.values]
            points = [p | more for p in points for more in (choices if d.active(self.fixed | p) else [{}])]
        return points

    def corners(self) -> list[Options]:
        """Return configurations at the ends of the space: all low and all high, for each choice with dependents."""
        # not every combination of ends, whose number doubles with each option
        hinges = {name for dimension in self.dimensions for name in dimension.when}
        found = []
        choices = [d for d in self.dimensions if d.name in hinges]
        self._check_number(choices)
        for picked in itertools.product(*(d.values for d in choices)):
            for end in (0, -1):
                options: Options = dict(zip((d.name for d in choices), picked, strict=True))
                for d in self.dimensions:
                    if d.name not in options and d.active(self.fixed | options):
                        options[d.name] = d.values[end]
                found.append({d.name: options[d.name] for d in self.dimensions if d.name in options})
        return found

    def _check_number(self, dimensions: Sequence[Dimension]) -> None:
        """Raise a SpaceError if the values of these dimensions have too many combinations to list."""
        if (n := math.prod(len(d.values) for d in dimensions)) > MOST:
            names = ", ".join(d.name for d in dimensions)
            raise SpaceError(f"{names} have {n} combinations of values, at most {MOST} are tried: list fewer values")

    def describe(self) -> Options:
        """Return the space as the mapping that a file would hold."""
        search: Options = {}
        for d in self.dimensions:
            search[d.name] = {d.kind: list(d.values)}
            search[d.name] |= {"step": d.step} if d.step is not None else {}
            search[d.name] |= {"when": {name: list(values) for name, values in d.when.items()}} if d.when else {}
        return {"fixed": dict(self.fixed), "search": search}

    @property
    def retrains(self) -> bool:
        """Whether any searched option changes the training, and not only how samples are drawn."""
        return any(not d.name.startswith("sampler.") for d in self.dimensions)


def read_space(name: str) -> Space:
    """Read a space: the name of a shipped one (an entry of spaces.yaml), or a file.

    Raises:
        SpaceError: in one sentence, for a space that is missing, empty or not valid.
    """
    shipped = shipped_spaces()
    if name in shipped:
        return parse_space(shipped[name], name)
    if not Path(name).is_file():
        raise SpaceError(f"no search space {shown(name)}: give a YAML file, or one of the shipped {', '.join(shipped)}")
    return parse_space(read_yaml(Path(name)), name)


def shipped_spaces() -> dict[str, Any]:
    """Return the content of the shipped spaces by name, sorted."""
    entries = read_yaml(SPACES)
    return {name: entries[name] for name in sorted(entries) if "search" in entries[name]}  # the rest is included


def parse_space(content: Mapping[str, Any], where: str) -> Space:
    """Return the space of a mapping with `fixed` and `search`; `where` names it in errors."""
    if odd := sorted(map(str, content.keys() - {"fixed", "search"})):
        raise SpaceError(f"{where}: unknown entry {shown(odd[0])}; a space has `fixed` and `search`")
    fixed, search = content.get("fixed") or {}, content.get("search") or {}
    if not isinstance(fixed, Mapping) or not isinstance(search, Mapping):
        raise SpaceError(f"{where}: `fixed` and `search` must be mappings from dotted names")
    if not search:
        raise SpaceError(f"{where}: the search space is empty; put at least one option under `search`")
    dimensions: list[Dimension] = []
    for name, about in search.items():
        dimensions.append(_dimension(str(name), about, where, fixed, dimensions))
    return Space(dict(fixed), tuple(dimensions))


def check_space(space: Space, options: Mapping[str, Any]) -> None:
    """Check every searched option against the signatures, and the ends of every range against the parts' own rules.

    Raises:
        ConfigError: in one sentence, naming the option.
    """
    # the parts' rules are ranges: what they allow at both ends they allow between them
    for corner in space.corners():
        try:
            config_in(space, options, corner)
        except ValueError as error:
            shown = ", ".join(f"{name}={value}" for name, value in corner.items())
            raise SpaceError(f"the search space does not fit the run: {error} (at {shown})") from error


def config_in(space: Space, options: Mapping[str, Any], searched: Mapping[str, Any]) -> Config:
    """Return the checked configuration of a run: the file, the space's fixed options, those given, the searched ones.

    Raises:
        ConfigError: in one sentence, naming the option.
    """
    return check_config(resolve({**space.fixed, **options, **searched}, prog="sweep"))


def _dimension(name: str, about: Any, where: str, fixed: Mapping[str, Any], earlier: list[Dimension]) -> Dimension:
    if not isinstance(about, Mapping) or len(kinds := [key for key in about if key in KINDS]) != 1:
        raise SpaceError(f"{where}: {name} needs exactly one of {', '.join(KINDS)}")
    if odd := sorted(map(str, about.keys() - {kinds[0], "step", "when"})):
        raise SpaceError(
            f"{where}: {name} has an unknown entry {shown(odd[0])}; valid here: {', '.join(KINDS)}, step, when"
        )
    kind, values = kinds[0], about[kinds[0]]
    if not isinstance(values, list) or not values:
        raise SpaceError(f"{where}: {name}: `{kind}` needs a list of values, got {shown(values)}")
    if len(set(map(repr, values))) < len(values):
        raise SpaceError(f"{where}: {name}: `{kind}` holds a value twice, got {shown(values)}")
    if kind in ("uniform", "log_uniform"):
        values = [_read_number(value) for value in values]
        _check_range(f"{where}: {name}", kind, values, about.get("step"))
    elif "step" in about:
        raise SpaceError(f"{where}: {name}: `step` belongs to uniform ranges")
    return Dimension(name, kind, tuple(values), about.get("step"), _when(name, about, where, fixed, earlier))


def _read_number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value  # YAML reads 1e-4, without a point, as text
    except ValueError:
        return value


def _check_range(where: str, kind: str, values: list[Any], step: Any) -> None:
    # a bool is an int in Python
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    # the bound, not `isfinite`: that fails with whole numbers that no float holds
    if len(values) != 2 or len(numbers) != 2 or not all(abs(n) < BOUND for n in numbers) or not values[0] < values[1]:
        raise SpaceError(f"{where}: `{kind}` needs two numbers, the lower first, got {shown(values)}")
    if kind == "log_uniform" and not values[0] > 0:
        raise SpaceError(f"{where}: `log_uniform` needs positive ends, got {values}")
    if step is not None and (kind == "log_uniform" or not isinstance(step, int | float) or not step > 0):
        raise SpaceError(f"{where}: `step` must be positive, and belongs to `uniform` alone, got {shown(step)}")
    if step is not None and all(isinstance(end, int) for end in values) and step != int(step):
        raise SpaceError(f"{where}: `step` must be a whole number, as both ends are, got {step}")


def _when(
    name: str, about: Mapping[str, Any], where: str, fixed: Mapping[str, Any], earlier: list[Dimension]
) -> dict[str, tuple[Any, ...]]:
    conditions = about.get("when") or {}
    # only options above it: Optuna chooses them in the order of the file
    known = {d.name for d in earlier if d.kind in ("choice", "grid")} | set(fixed)
    if not isinstance(conditions, Mapping):
        raise SpaceError(f"{where}: {name}: `when` maps the name of an earlier choice to its values")
    for other in conditions:
        if other not in known:
            what = f"{other!r}, which is no choice, grid or fixed option above it"
            raise SpaceError(f"{where}: {name}: `when` names {what}")
    return {other: tuple(v if isinstance(v, list) else [v]) for other, v in conditions.items()}
