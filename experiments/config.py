"""Configuration: YAML files and command line options, checked against the signatures of what they configure.

There are no configuration classes: the options of `model` are the keyword arguments of the model's class, those of
`data` the loader's, and so on; `--help` prints their docstrings. Order: defaults, then the file, then what is given.
An option is text on the command line; `resolve` turns it, once, into the type that the signature asks for.
"""

import difflib
import functools
import hashlib
import json
import re
from argparse import SUPPRESS
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import yaml

from experiments.extractor import resolve_extractor
from experiments.help import HelpFormatter, is_part, type_in_words
from experiments.yaml_file import CONFIGS, ConfigError, read_yaml
from geovae.checks import check_choice, check_count, check_seed, shown
from geovae.data import DATASETS
from geovae.devices import choose_device
from geovae.evaluation.scores import DEFAULT_SCORES, SCORES
from geovae.models import MODELS
from geovae.models.networks import PAPER_WIDTHS
from geovae.samplers import SAMPLERS
from geovae.training import Trainer

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

LONGEST = 10_000  # letters of an option
Options = dict[str, Any]
"""Options as they are given, by dotted names: text from a command line, or typed values from anywhere else."""
Config = dict[str, Any]
"""All options of a run, nested and typed: what `resolve` returns."""
ALIASES = {"dataset": "data.name", "model": "model.name"}
SWITCHES = ("help", "print_config", "quiet")  # options that may stand without a value


@dataclass(frozen=True)
class RunOptions:
    """The options of a run beside those of its data set, model, training and samplers.

    Args:
        samplers: which samplers to draw with; by default all that the model's codes allow.
        n_samples: images to draw with each sampler.
        extractor: whose features are scored: `inception`, `mnist-net-v1`, `fashion-mnist-net-v1`, `random-conv-v1`,
            `pixels`, or `auto` for a classifier of the data set, else inception where its weights are found, else
            random-conv-v1.
        scores: names in `SCORES`; by default frechet, kid, prd and precision_recall.
        seed: of the weights, the shuffling, the latent noise and the samplers.
        device: `cpu`, `cuda`, or `auto` for the GPU where there is one.
        images_every: epochs between two tracked pictures of reconstructions.
        keep_checkpoint: upload the training checkpoint beside the model file; by default only where it is not larger.
            It stays in the run's folder either way.
    """

    samplers: list[str] | None = None
    n_samples: int = 1000
    extractor: str = "auto"
    scores: list[str] | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    images_every: int = 10
    keep_checkpoint: bool | None = None

    def __post_init__(self) -> None:
        """Check ranges and names."""
        check_count(low=2, n_samples=self.n_samples)
        check_count(images_every=self.images_every)
        check_seed(self.seed)
        for name in self.samplers or []:
            check_choice("samplers", name, SAMPLERS)
        for name in self.scores or []:
            check_choice("scores", name, SCORES)
        for option, names in (("samplers", self.samplers or []), ("scores", self.scores or [])):
            if twice := [name for name in names if names.count(name) > 1]:
                raise ConfigError(f"`{option}` names {twice[0]} twice")
        choose_device(self.device)


def parse_options(flags: Sequence[str]) -> Options:
    """Return command line flags, `--a.b value` or `--a.b=value`, as {"a.b": "value"}.

    Options with an empty value are left out; those of `SWITCHES` are "true" where no value follows.

    Raises:
        ConfigError: for a word that is no option, or an option without a value.
    """
    options: Options = {}
    rest = list(flags)
    while rest:
        flag = "--help" if rest[0] == "-h" else rest[0]
        rest = rest[1:]
        if not flag.startswith("--"):
            raise ConfigError(f"expected an option that starts with --, got {flag!r}")
        name, equals, value = flag.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if not equals and name in SWITCHES and (not rest or rest[0].startswith("-")):
            value = "true"
        elif not equals:
            if not rest:
                raise ConfigError(f"option --{name} needs a value")
            value = rest.pop(0)
        if value != "":  # an MLproject writes parameters that nobody has set as empty ones
            options[name] = value
    return options


def resolve(options: Mapping[str, Any] | None = None, *, prog: str = "geovae") -> Config:
    """Return the whole configuration, every option present and typed, from the `options` that are given.

    `config` among them names the YAML file below them, by default the one of the data set (`data.name`, or digits).
    `dataset` and `model` may stand for `data.name` and `model.name`. `help` shows the options: "true" all but those of
    the samplers, "all", or the name of a group.

    Raises:
        ConfigError: for an unknown file, option, model or data set, or a value of the wrong type.
        SystemExit: after `help`.
    """
    given = rename(options or {})
    part = given.pop("help", None)
    from_file = rename(read_yaml(Path(given.pop("config", None) or _default_file(given))))
    both = from_file | given
    known = (*DATASETS, *MODELS, *SAMPLERS)
    chosen = _choice("data", both, DATASETS), _choice("model", both, MODELS)
    if part:
        _parser(*chosen, prog, known, part).print_help()
        raise SystemExit(0)
    parser = _parser(*chosen, prog, known)
    names = list(flatten(parser.get_defaults().as_dict()))
    # a file sets options of its own model and data set, which may not exist where others were given
    both = {key: value for key, value in both.items() if not _belongs_to_replaced(key, names, from_file, given)}
    check_names(both, names)
    return _fill(parse(parser, both, lists=list_names(RunOptions)))


def _fill(config: Config) -> Config:
    """Return the configuration with its ranges checked, and with the values that its open options stand for.

    `device` stays as given: what it stands for depends on the machine, and changes no result by intent.
    """
    # built for their checks alone: a wrong range is refused before a model is built or data are read
    RunOptions(**{field.name: config[field.name] for field in fields(RunOptions)})
    Trainer(**config["training"])
    model = config["model"]
    if model.get("network") in PAPER_WIDTHS and model.get("width", 0) is None:
        model = model | {"width": PAPER_WIDTHS[model["network"]]}
    # recorded as what it stands for: on another machine `auto` would score other features
    extractor = resolve_extractor(config["extractor"], config["data"])
    used = {"extractor": extractor, "scores": config["scores"] or list(DEFAULT_SCORES)}
    samplers = {name: _used_options(name, options) for name, options in config["sampler"].items()}
    return config | {"model": model, "sampler": samplers} | used


def _used_options(name: str, options: Config) -> Config:
    """Return what a sampler makes of its options: presets and rules replaced by the values that they stand for."""
    used = SAMPLERS[name](**options).options
    return {key: used[key] for key in options}


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Options:
    """Return {"model": {"beta": 1}} as {"model.beta": 1}."""
    flat: Options = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def rename(options: Mapping[str, Any]) -> Options:
    """Return nested or dotted options under their dotted names, with those of `ALIASES` replaced."""
    return {ALIASES.get(name, name): value for name, value in flatten(options).items()}


def to_yaml(config: Config) -> str:
    """Return the configuration as a file that `config` reads back to the same configuration."""
    return yaml.safe_dump(config, sort_keys=False)


def fingerprint(config: Config, *, over_seeds: bool = False) -> str:
    """Return 12 hexadecimal digits that two configurations share if and only if they ask for the same results.

    Where it runs (`device`), how often it logs pictures (`images_every`) and whether it uploads its checkpoint
    (`keep_checkpoint`) do not count, nor `seed` with `over_seeds`.
    """
    # these may differ between the attempts of one run, which must find each other
    ignored = {"device", "images_every", "keep_checkpoint"} | ({"seed"} if over_seeds else set())
    counted = {key: value for key, value in config.items() if key not in ignored}
    # sorted: a file may list the options in any order
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:12]


def parse(parser: "ArgumentParser", options: Mapping[str, Any], *, lists: Iterable[str] = ()) -> dict[str, Any]:
    """Return all options of `parser`, nested and typed; text of those in `lists` may hold several values with commas.

    Raises:
        ConfigError: in one sentence, for a value of the wrong type.
    """
    from jsonargparse import ArgumentError

    split = {name: _split_commas(options[name]) for name in lists if name in options}
    texts = {action.dest for action in parser._actions if getattr(action, "_typehint", None) is str}
    for name, value in options.items():
        _check_length(name, value, is_number=name not in texts)
    try:
        values = parser.parse_object({**options, **split}).as_dict()
    except (ArgumentError, RecursionError) as error:
        raise ConfigError(_explain(str(error))) from error
    flat = flatten(values)
    for action in parser._actions:  # jsonargparse takes null for every type
        kind = getattr(action, "_typehint", None)
        if kind is not None and flat.get(action.dest, "") is None and type(None) not in get_args(kind):
            raise ConfigError(
                f"`{action.dest}` must be {type_in_words(getattr(kind, '__name__', str(kind)))}, got null"
            )
    return values


def _check_length(name: str, value: Any, is_number: bool) -> None:
    """Raise a ConfigError for a text that is too long, and for a number that Python's and torch's own cannot hold."""
    digits = is_number and isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d{19,}\s*", value)
    if digits or (isinstance(value, int) and abs(value) >= 1 << 63):
        raise ConfigError(f"`{name}` is too large a number")
    if len(value if isinstance(value, str) else repr(value)) > LONGEST:
        raise ConfigError(f"`{name}` is longer than {LONGEST} letters: {shown(value)}")


def list_names(*parts: Any) -> list[str]:
    """Return the names of the arguments of functions, and of the fields of classes, that hold several values."""
    hints = {name: hint for part in parts for name, hint in get_type_hints(part).items()}
    several = (list, tuple, Sequence)
    return [name for name, hint in hints.items() if any(get_origin(one) in several for one in (hint, *get_args(hint)))]


def check_label(name: object, where: str) -> str:
    """Return the name of a run, or of a part of it, if it can be that of a folder.

    Raises:
        ConfigError: otherwise; another user's file must not choose where something is written.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,99}", name):
        raise ConfigError(f"{where}: a name must be a text of up to 100 letters without slashes, got {shown(name)}")
    return name


def check_names(options: Iterable[str], names: Sequence[str]) -> None:
    """Raise a ConfigError for an option that is not one of `names`, with the nearest that is."""
    for name in options:
        if name not in names:
            group = name.rpartition(".")[0]
            siblings = [other for other in names if other.rpartition(".")[0] == group] or names
            raise ConfigError(f"unknown option {shown(name)}; {_hint(name, names)}valid here: {', '.join(siblings)}")


def _hint(name: str, names: Sequence[str]) -> str:
    """Return which option was probably meant: `epoch`, `epochs` and `model.epochs` all stand for `training.epochs`."""
    close = difflib.get_close_matches(name, names, n=1)
    if not close:
        short = {other.rpartition(".")[2]: other for other in reversed(names)}
        close = [short[found] for found in difflib.get_close_matches(name.rpartition(".")[2], short, n=1)]
    return f"did you mean {close[0]}? " if close else ""


def _split_commas(value: Any) -> Any:
    # typed values, `null` and YAML lists are parsed as they are
    return value.split(",") if isinstance(value, str) and value != "null" and "[" not in value else value


def _explain(message: str) -> str:
    """Return jsonargparse's message about a value as one sentence."""
    wrong = re.search(r'Parser key "(?P<key>.+?)":.*?(?:Given value:|Got value:) (?P<value>.*)', message, re.DOTALL)
    if wrong is None:
        missing = re.search(r"required: (.*)", message)
        return f"give --{missing[1].replace(', ', ', --')}" if missing else " ".join(message.split())
    kinds = dict.fromkeys(
        type_in_words(kind) for kind in re.findall(r"Expected an? (.+?)(?:\. Got value.*)?$", message, re.M)
    )
    return f"`{wrong['key']}` must be {' or '.join(kinds)}, got {shown(wrong['value'].strip())}"


def _default_file(given: Options) -> Path:
    name = _choice("data", {"data.name": given.get("data.name", "digits")}, DATASETS)
    file = CONFIGS / f"{name}.yaml"
    return file if file.exists() else CONFIGS / "digits.yaml"


def _choice(group: str, options: Options, registry: Mapping[str, Any]) -> str:
    name = options.get(f"{group}.name", next(iter(registry)))
    if not isinstance(name, str) or name not in registry:
        raise ConfigError(f"unknown {group}.name {shown(name)}; choose from {', '.join(registry)}")
    return str(name)


@functools.cache  # a study resolves hundreds of configurations
def _parser(data: str, model: str, prog: str, known: tuple[str, ...], part: str = "all") -> "ArgumentParser":
    """Return a parser with every option of a run on this data set with this model; `known` are all registered names.

    `part` names the groups that it has: see `resolve`.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=prog,
        usage=SUPPRESS if part != "all" else "%(prog)s [--config FILE] [--OPTION VALUE ...]",
        exit_on_error=False,
        add_help=False,
        formatter_class=HelpFormatter,
        description="Every option of one run; a YAML file given with --config sets them too.",
        epilog=None if part != "true" else "The options of the samplers: `--help sampler`, or `--help sampler.NAME`.",
    )
    add_run_options(parser, data, model, part)
    return parser


def add_run_options(parser: "ArgumentParser", data: str = "digits", model: str = "vae", part: str = "all") -> None:
    """Add the options of a run to a parser: all, or those of `part` (see `resolve`).

    Raises:
        ConfigError: if there is no such part.
    """
    # the signatures are the only list of options: one that is added there is an option of every command
    groups: dict[str, Callable[[], Any]] = {
        "run": lambda: parser.add_class_arguments(RunOptions),
        "data": lambda: parser.add_function_arguments(DATASETS[data].load, "data"),
        "model": lambda: parser.add_class_arguments(MODELS[model], "model", skip={"image_shape"}),
        "training": lambda: parser.add_class_arguments(Trainer, "training"),
    }
    for name, sampler in SAMPLERS.items():
        groups[f"sampler.{name}"] = partial(parser.add_class_arguments, sampler, f"sampler.{name}", skip={"seed"})
    chosen = [group for group in groups if is_part(group, part)]
    if not chosen:
        raise ConfigError(f"no options are called {part!r}; --help shows all, {', '.join(groups)}, sampler")
    for group in chosen:
        groups[group]()
    if "data" in chosen:
        parser.add_argument(
            "--data.name", type=Literal[tuple(DATASETS)], default=data, help="the data set; also --dataset"
        )
    if "model" in chosen:
        parser.add_argument("--model.name", type=Literal[tuple(MODELS)], default=model, help="the model; also --model")


def _belongs_to_replaced(key: str, names: list[str], from_file: Options, given: Options) -> bool:
    """True if `key` belongs to the model or data set that the file names, and another one was given in its place."""
    group = key.partition(".")[0]
    replaced = given.get(f"{group}.name", from_file.get(f"{group}.name")) != from_file.get(f"{group}.name")
    return replaced and key not in given and key not in names
