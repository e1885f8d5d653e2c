"""The file of a comparison: several runs on one data set."""

from pathlib import Path

from experiments.config import Config, ConfigError, read_yaml, resolve, to_flags


def read_comparison(path: Path, flags: list[str], prog: str) -> dict[str, Config]:
    """Return the resolved configuration of each run of a comparison file; `flags` apply to all of them.

    Raises:
        ConfigError: if the file or any of its runs is not valid.
    """
    content = read_yaml(path)
    if not isinstance(content.get("runs"), dict) or content.keys() > {"dataset", "runs"} or not content["runs"]:
        raise ConfigError(f"{path} must hold `dataset: NAME` and `runs: {{name: options}}`")
    dataset = [f"--data.name={content['dataset']}"] if "dataset" in content else []
    runs = content["runs"].items()
    return {name: resolve([*dataset, *to_flags(options or {}), *flags], prog=prog) for name, options in runs}
