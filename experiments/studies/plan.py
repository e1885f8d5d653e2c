"""What a study consists of: a YAML file of models x samplers x data x seeds in sizes, as a list of cells.

title, about      what the report says on top
report            which report is written: one of `REPORTS`
options           of every run, dotted or nested, as on the command line
models            {name: options}; `samplers` among them says how each is drawn from
variants          {name: options}: draw again from every trained model, or from those listed as `models`, with other
                  options of its samplers; one without options names what the model is trained with, and two with the
                  same options are run once
sizes             {name: {seeds, data, ...}}: `data` is {name: options}, and may hold `models: {name: options}` of its
                  own, and `only: [models]`, which alone are trained on it; `options` join those above, `models` and
                  `variants` replace them; of the report `oasis` also `classifier` and `cohort`, see
                  `experiments.studies.oasis`
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.config import Config, Options, check_label, rename, resolve
from experiments.help import as_command
from experiments.run import check_config
from experiments.studies.cells import TRAINED, Cell, Study
from experiments.studies.reports import REPORTS
from experiments.yaml_file import ConfigError, read_yaml
from geovae.checks import shown

STUDIES = Path(__file__).parent
MOST_SEEDS = 10_000
SIZES = ("full", "medium", "small", "ci")
KEYS = {"title", "about", "report", "options", "models", "variants", "sizes"}
SIZE_KEYS = {"seeds", "data", "options", "models", "variants", "classifier", "cohort"}


def names() -> list[str]:
    """Return the studies that are shipped."""
    return sorted(file.stem for file in STUDIES.glob("*.yaml"))


def read_study(
    name: str, size: str, options: Options | None = None, *, only: Sequence[str] = (), seeds: int = 0
) -> Study:
    """Return the study `name` (shipped, or the path of a YAML file) in one size, every configuration resolved.

    Args:
        name: one of `names()`, or a file.
        size: one of the file's sizes: full, medium, small or ci.
        options: of every run; they win over the file's.
        only: names of data to keep, or their first words; by default all of the size.
        seeds: how many seeds; by default as the size says.

    Raises:
        ConfigError: naming what is wrong.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else STUDIES / f"{name}.yaml"
    if name not in names() and path.parent == STUDIES:
        raise ConfigError(f"unknown study {shown(name)}; choose from {', '.join(names())}, or give a YAML file")
    content = read_yaml(path)
    _check_keys(content, KEYS, str(path))
    section = _section(content, size, path)
    data = _choose_data(section["data"], only)
    if str(content.get("report")) not in REPORTS:
        raise ConfigError(f"{path}: unknown report {shown(content.get('report'))}; choose from {', '.join(REPORTS)}")
    options = options or {}
    if seeds > MOST_SEEDS:
        raise ConfigError(f"`seeds` must be at most {MOST_SEEDS}, got {shown(seeds)}")
    if "seed" in options:
        raise ConfigError("a study sets the seeds of its runs itself: say how many with --seeds")
    cells = []
    for data_name in data:
        configs = {m: _distinct(_configs(section, data_name, m, options)) for m in _models(section, data_name)}
        for seed in range(seeds or section["seeds"]):
            for model, (of_model, same) in configs.items():
                cells.append(Cell(data_name, model, seed, {v: c | {"seed": seed} for v, c in of_model.items()}, same))
    texts = {key: str(content.get(key, "")).strip() for key in ("title", "about", "report")}
    variants = list(section["variants"])
    used = section | {"seeds": seeds or section["seeds"], "data": data}
    command = _command(name, size, options, only, seeds)
    return Study(path.stem, size, cells=cells, variants=variants, source=used, command=command, **texts)


def _command(name: str, size: str, options: Options, only: Sequence[str], seeds: int) -> str:
    asked = {"name": name, "size": size} | ({"data": ",".join(only)} if only else {})
    return as_command("study", asked | ({"seeds": seeds} if seeds else {}) | options)


def _section(content: Mapping[str, Any], size: str, path: Path) -> dict[str, Any]:
    """Return what the file says of one size, with what it says of all sizes."""
    sizes = content.get("sizes")
    if not isinstance(sizes, dict) or not content.get("models", True):
        raise ConfigError(f"{path} must hold `models: {{name: options}}` and `sizes: {{name: {{seeds, data}}}}`")
    if size not in sizes:
        raise ConfigError(f"study {path.stem!r} has no size {size!r}; choose from {', '.join(map(str, sizes))}")
    own = sizes[size]
    _check_keys(own, SIZE_KEYS, f"size {size!r} of {path}")
    section = {"models": {}, "variants": {}} | {k: content[k] for k in ("models", "variants") if k in content} | own
    where = f"size {size!r} of {path}"
    section["options"] = _mapping(content.get("options"), f"`options` of {path}")
    section["options"] = section["options"] | _mapping(own.get("options"), f"`options` of {where}")
    for key in ("models", "variants", "data"):  # and each of theirs
        section[key] = {
            check_label(str(name), f"`{key}` of {where}"): _mapping(options, f"{shown(name)} of `{key}` of {where}")
            for name, options in _mapping(section.get(key), f"`{key}` of {where}").items()
        }
    for key in ("data", "models"):
        if not section[key]:
            raise ConfigError(f"size {size!r} of {path} must hold `{key}: {{name: options}}`")
    if type(section.get("seeds")) is not int or not 1 <= section["seeds"] <= MOST_SEEDS:
        raise ConfigError(f"size {size!r} of {path} must say `seeds`, a whole number from 1 to {MOST_SEEDS}")
    return section


def _mapping(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict | None):
        raise ConfigError(f"{where} must hold a mapping, got {shown(content)}")
    return content or {}


def _check_keys(content: Any, known: set[str], where: str) -> None:
    if not isinstance(content, dict):
        raise ConfigError(f"{where} must hold a mapping, got {type(content).__name__}")
    unknown = sorted(map(str, content.keys() - known))
    if unknown:
        raise ConfigError(f"{where} has unknown keys: {', '.join(unknown)}; valid are {', '.join(sorted(known))}")


def _choose_data(data: Mapping[str, Any], only: Sequence[str]) -> dict[str, Any]:
    """Return the data named, by their names or by the first word of several: `fashion_mnist` is all its sizes."""
    chosen: dict[str, Any] = {}
    for wanted in only or data:
        found = {name: options for name, options in data.items() if wanted in (name, *name.split()[:1])}
        if not found:
            raise ConfigError(f"the study has no data {wanted!r} in this size; choose from {', '.join(data)}")
        chosen |= found
    return chosen


def _models(section: Mapping[str, Any], data: str) -> list[str]:
    """Return the models that are trained on these data."""
    models = list(section["models"])
    only = (section["data"][data] or {}).get("only", models)
    if not isinstance(only, list) or not only or (unknown := [name for name in only if name not in models]):
        what = f"unknown model {unknown[0]!r}" if isinstance(only, list) and only else f"got {only!r}"
        raise ConfigError(
            f"data {data!r}: `only` must list models of the study: {what}; choose from {', '.join(models)}"
        )
    return only


def _configs(section: Mapping[str, Any], data: str, model: str, options: Options) -> Iterator[tuple[str, Config]]:
    """Yield the configuration of the training and then of each variant."""
    of_data, where = dict(section["data"][data]), f"`models` of data {data!r}"
    of_data.pop("only", None)
    of_model = _mapping(_mapping(of_data.pop("models", None), where).get(model), f"{model!r} of {where}")
    own = section["options"] | section["models"][model] | of_data | of_model
    for name, changes in {TRAINED: {}, **section["variants"]}.items():
        changes = dict(changes)
        models = changes.pop("models", None) or [model]
        if not isinstance(models, list):
            raise ConfigError(f"`models` of variant {name!r} must list names, got {shown(models)}")
        if model in models:
            yield name, check_config(resolve(rename(own) | rename(changes) | options, prog="study"))


def _distinct(configs: Iterable[tuple[str, Config]]) -> tuple[dict[str, Config], dict[str, str]]:
    """Return the configurations that differ, by variant, and for each other variant the first that has its own."""
    distinct: dict[str, Config] = {}
    same = {}
    for name, config in configs:
        first = next((other for other, known in distinct.items() if known == config), None)
        if first is None:
            distinct[name] = config
        else:
            same[name] = first
    return distinct, same
