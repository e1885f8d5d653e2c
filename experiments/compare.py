"""The file of a comparison: several runs on one data set."""

from pathlib import Path

from experiments.config import Config, ConfigError, Options, read_yaml, rename, resolve
from experiments.run import check_config


def read_comparison(path: Path, options: Options, prog: str) -> dict[str, Config]:
    """Return the checked configuration of each run of a comparison file; `options` apply to all of them.

    Raises:
        ConfigError: if the file or any of its runs is not valid.
    """
    content = read_yaml(path)
    if not isinstance(content.get("runs"), dict) or content.keys() > {"dataset", "runs"} or not content["runs"]:
        raise ConfigError(f"{path} must hold `dataset: NAME` and `runs: {{name: options}}`")
    dataset = {"data.name": content["dataset"]} if "dataset" in content else {}
    configs = {}
    for name, own in content["runs"].items():
        try:
            configs[name] = check_config(resolve(dataset | rename(own or {}) | options, prog=prog))
        except ValueError as error:
            raise ConfigError(f"run {name!r}: {error}") from error
    return configs
