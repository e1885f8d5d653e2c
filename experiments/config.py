"""Configuration: a YAML file and dotted flags, bound to the signatures of what they configure.

There are no configuration classes: the options of `model` are the keyword arguments of the model's class, those of
`data` the loader's, and so on; `--help` prints their docstrings. Order: defaults, then the file, then the flags.
"""

import difflib
import functools
import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from experiments.judge import choose_device
from experiments.run import check, run
from geovae.data import DATASETS
from geovae.models import MODELS
from geovae.samplers import SAMPLERS
from geovae.training import Trainer

CONFIGS = Path(__file__).parent / "configs"
Config = dict[str, Any]
LISTS = ("samplers", "scores")  # may be written with commas


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one sentence for the user."""


def resolve(flags: Sequence[str] = (), *, prog: str = "geovae") -> Config:
    """Return the whole configuration, every option present, from command line `flags`.

    `--config FILE` names the YAML file, by default the one of the data set (`--data.name`, or digits). A flag with an
    empty value stands for "as the file says", which is how an MLproject leaves a parameter open.

    Raises:
        ConfigError: for an unknown file, option, model or data set, or a value of the wrong type.
        SystemExit: after `--help`.
    """
    given, wants_help = split_flags(flags)
    file = given.pop("config", None) or _default_file(given)
    from_file = flatten(read_yaml(Path(file)))
    options = from_file | given
    known = (*DATASETS, *MODELS, *SAMPLERS)
    parser = _parser(_choice("data", options, DATASETS), _choice("model", options, MODELS), prog, known)
    if wants_help:
        parser.print_help()
        raise SystemExit(0)
    names = _option_names(parser)
    options = {key: value for key, value in options.items() if not _of_other_choice(key, names, from_file, given)}
    _check_names(options, names)
    return _parse(parser, options)


def check_config(config: Config) -> Config:
    """Return the configuration, with everything checked that needs no data.

    Raises:
        ValueError: in one sentence, for an option out of its range.
    """
    check(**{name: config[name] for name in inspect.signature(check).parameters})
    choose_device(config["device"])
    return config


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Config:
    """Return {"model": {"beta": 1}} as {"model.beta": 1}."""
    flat: Config = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def to_flags(options: Mapping[str, Any]) -> list[str]:
    """Return nested or dotted options as the flags that say the same."""
    return [f"--{key}={_text(value)}" for key, value in flatten(options).items()]


def to_yaml(config: Config) -> str:
    """Return the configuration as a file that `--config` reads back to the same configuration."""
    return yaml.safe_dump(config, sort_keys=False)


def fingerprint(config: Config, *, over_seeds: bool = False) -> str:
    """Return 12 hexadecimal digits that two configurations share if and only if they ask for the same results.

    Where it runs (`device`) and how often it tells of it (`images_every`) do not count, nor `seed` with `over_seeds`.
    """
    aside = {"device", "images_every"} | ({"seed"} if over_seeds else set())
    said = {key: value for key, value in config.items() if key not in aside}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def read_yaml(path: Path) -> Config:
    """Read a YAML mapping.

    Raises:
        ConfigError: if the file is missing, is not YAML, or holds no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}; shipped are {known}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of options, got {type(content).__name__}")
    return content


def split_flags(flags: Sequence[str]) -> tuple[Config, bool]:
    """Return `--a.b v` and `--a.b=v` as {"a.b": "v"}, without empty values, and whether help is asked for."""
    given: Config = {}
    rest = list(flags)
    wants_help = False
    while rest:
        flag = rest.pop(0)
        if flag in ("-h", "--help"):
            wants_help = True
            continue
        if not flag.startswith("--"):
            raise ConfigError(f"expected an option that starts with --, got {flag!r}")
        name, equals, value = flag.removeprefix("--").partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"option --{name} needs a value")
            value = rest.pop(0)
        if value != "":
            given[name] = value
    return given, wants_help


def _default_file(given: Config) -> Path:
    name = given.get("data.name", "digits")
    _choice("data", {"data.name": name}, DATASETS)
    file = CONFIGS / f"{name}.yaml"
    return file if file.exists() else CONFIGS / "digits.yaml"


def _choice(group: str, options: Config, registry: Mapping[str, Any]) -> str:
    name = options.get(f"{group}.name", next(iter(registry)))
    if name not in registry:
        raise ConfigError(f"unknown {group}.name {name!r}; choose from {', '.join(registry)}")
    return str(name)


@functools.cache
def _parser(data: str, model: str, prog: str, known: tuple[str, ...]) -> Any:
    """Return a parser with every option of a run on this data set with this model; `known` are all registered names."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=prog,
        usage="%(prog)s [--config FILE] [--OPTION VALUE ...]",
        exit_on_error=False,
        description="Every option of one run; a YAML file given with --config sets them too.",
    )
    own = inspect.signature(run).parameters
    sections: set[str | int] = {
        name for name, p in own.items() if p.annotation == Config or name in ("tracker", "on_epoch")
    }
    parser.add_function_arguments(run, skip=sections | {"output"})
    parser.add_function_arguments(DATASETS[data].load, "data")
    parser.add_class_arguments(MODELS[model], "model", skip={"image_shape"})
    parser.add_argument("--data.name", type=Literal[tuple(DATASETS)], default=data, help="the data set")
    parser.add_argument("--model.name", type=Literal[tuple(MODELS)], default=model, help="the model")
    parser.add_class_arguments(Trainer, "training")
    for name, sampler in SAMPLERS.items():
        parser.add_class_arguments(sampler, f"sampler.{name}", skip={"seed"})
    return parser


def _option_names(parser: Any) -> list[str]:
    return [key for key in parser.get_defaults().as_flat().__dict__ if key != "help"]


def _of_other_choice(key: str, names: list[str], from_file: Config, given: Config) -> bool:
    """Return whether `key` is an option that the file gives to a model or data set which a flag replaces."""
    group = key.partition(".")[0]
    replaced = given.get(f"{group}.name", from_file.get(f"{group}.name")) != from_file.get(f"{group}.name")
    return replaced and key not in given and key not in names


def _check_names(options: Config, names: list[str]) -> None:
    for name in options:
        if name not in names:
            group = name.rpartition(".")[0]
            siblings = [other for other in names if other.rpartition(".")[0] == group] or names
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(f"unknown option {name!r}; {hint}valid here: {', '.join(siblings)}")


def _parse(parser: Any, options: Config) -> Config:
    from jsonargparse import ArgumentError

    written = {key: options[key] for key in LISTS if isinstance(options.get(key), str)}
    lists = {key: text.split(",") for key, text in written.items() if text != "null" and "[" not in text}
    try:
        return parser.parse_args(to_flags(options | lists)).as_dict()
    except ArgumentError as error:
        raise ConfigError(" ".join(str(error).split()).replace("Parser key", "option")) from error


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
