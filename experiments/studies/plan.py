"""What a study consists of: a YAML file of models x samplers x data x seeds in sizes, as a list of cells.

title, about      what the report says on top
report            which report is written: one of `REPORTS`
options           of every run, dotted or nested, as on the command line
models            {name: options}; `samplers` among them says how each is drawn from
variants          {name: options}: draw again from every trained model, or from those listed as `models`, with other
                  options of its samplers; one without options names what the model is trained with
sizes             {name: {seeds, data, ...}}: `data` is {name: options}, and may hold `models: {name: options}` of its
                  own; `options` join those above, `models` and `variants` replace them; of the report `oasis` also
                  `classifier` and `cohort`, see `experiments.studies.oasis`
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.config import Config, ConfigError, Options, read_yaml, rename, resolve
from experiments.help import as_command
from experiments.run import check_config
from experiments.studies.cells import TRAINED, Cell, Study
from experiments.studies.reports import REPORTS

STUDIES = Path(__file__).parent
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
    if not path.is_file() and path.parent == STUDIES:
        raise ConfigError(f"unknown study {name!r}; choose from {', '.join(names())}, or give a YAML file")
    content = read_yaml(path)
    _check_keys(content, KEYS, str(path))
    section = _section(content, size, path)
    data = _choose_data(section["data"], only)
    if content.get("report") not in REPORTS:
        raise ConfigError(f"{path}: unknown report {content.get('report')!r}; choose from {', '.join(REPORTS)}")
    options = options or {}
    if "seed" in options:
        raise ConfigError("a study sets the seeds of its runs itself: say how many with --seeds")
    cells = []
    for data_name in data:
        configs = {m: dict(_configs(section, data_name, m, options)) for m in section["models"]}
        for seed in range(seeds or section["seeds"]):
            for model, of_model in configs.items():
                cells.append(Cell(data_name, model, seed, {v: c | {"seed": seed} for v, c in of_model.items()}))
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
        raise ConfigError(f"study {path.stem!r} has no size {size!r}; choose from {', '.join(sizes)}")
    own = sizes[size]
    _check_keys(own, SIZE_KEYS, f"size {size!r} of {path}")
    section = {"models": {}, "variants": {}} | {k: content[k] for k in ("models", "variants") if k in content} | own
    section["options"] = (content.get("options") or {}) | (own.get("options") or {})
    for key in ("data", "models"):
        if not isinstance(section.get(key), dict) or not section[key]:
            raise ConfigError(f"size {size!r} of {path} must hold `{key}: {{name: options}}`")
    if not isinstance(section.get("seeds"), int) or section["seeds"] < 1:
        raise ConfigError(f"size {size!r} of {path} must say `seeds`, a whole number of at least 1")
    return section


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
        found = {name: options for name, options in data.items() if wanted in (name, name.split()[0])}
        if not found:
            raise ConfigError(f"the study has no data {wanted!r} in this size; choose from {', '.join(data)}")
        chosen |= found
    return chosen


def _configs(section: Mapping[str, Any], data: str, model: str, options: Options) -> Iterator[tuple[str, Config]]:
    """Yield the configuration of the training and then of each variant."""
    of_data = dict(section["data"][data] or {})
    of_model = (of_data.pop("models", None) or {}).get(model) or {}
    own = section["options"] | (section["models"][model] or {}) | of_data | of_model
    for name, changes in {TRAINED: {}, **section["variants"]}.items():
        changes = dict(changes or {})
        if model not in (changes.pop("models", None) or [model]) or (name != TRAINED and not changes):
            continue
        yield name, check_config(resolve(rename(own) | rename(changes) | options, prog="study"))
