"""Reading a YAML file that a user wrote: one mapping, no key twice, no aliases that would fill the memory."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from geovae.checks import shown

CONFIGS = Path(__file__).parent / "configs"
LARGEST = 100_000  # values of a file, each counted as often as its aliases repeat it


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one sentence for the user."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: if the file is missing, is not YAML, or holds no mapping.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may have no end
            raise OSError(0, "it is no file")
        content = yaml.load(path.read_text(), Loader=_Loader)  # a SafeLoader
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}; shipped are {known}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of text, dates and numbers, and of nesting
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of options, got {type(content).__name__}")
    return content


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """A SafeLoader that refuses a mapping with a key twice, and aliases that would fill the memory."""

    def get_single_node(self) -> Any:
        """Return the document's node."""
        node = super().get_single_node()
        _count_values(node, {})
        return node


def _count_values(node: Any, counted: dict[int, int]) -> int:
    """Return the values below a YAML node, aliases resolved; `counted` are those of nodes seen before."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in counted:
        counted[id(node)] = LARGEST  # of a node that contains itself
        below = node.value
        if isinstance(node, yaml.MappingNode):
            keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            if twice := [key for key, n in keys.items() if n > 1]:
                raise ConfigError(f"{shown(twice[0])} stands twice below line {node.start_mark.line + 1}")
            below = [part for pair in node.value for part in pair]
        counted[id(node)] = 1 + sum(_count_values(part, counted) for part in below)
    if counted[id(node)] > LARGEST:
        raise ConfigError(f"it holds more than {LARGEST} values, aliases resolved")
    return counted[id(node)]
