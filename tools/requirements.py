"""Write requirements.txt: the versions installed here of all that pyproject.toml asks for, and of what that needs.

Run it in an environment in which the tests passed (`make requirements`). CUDA's own packages are left to torch.
"""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
EXTRAS = ("mri", "test")
HEADER = "# Generated from pyproject.toml by `make requirements`: the versions that the tests passed with.\n"


def declared() -> list[Requirement]:
    """Return the requirements that pyproject.toml declares, with the extras that the Makefile installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [*project["dependencies"], *(name for extra in EXTRAS for name in project["optional-dependencies"][extra])]
    return [Requirement(name) for name in names]


def pinned() -> dict[str, str]:
    """Return the installed version of every declared distribution and, recursively, of what it requires."""
    pins: dict[str, str] = {}
    waiting = declared()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            found = version(name).partition("+")[0]  # torch 2.13.0+cpu is 2.13.0 for everybody else
        except PackageNotFoundError:
            if name.startswith(("nvidia-", "cuda-")) or name == "triton":
                continue
            raise SystemExit(f"{name} is required but not installed: run `make setup` first") from None
        if name not in pins or requirement.extras:
            pins[name] = found
            waiting += [r for text in requires(name) or [] if _wanted(r := Requirement(text), requirement.extras)]
    return dict(sorted(pins.items()))


def _wanted(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


if __name__ == "__main__":
    text = HEADER + "".join(f"{name}=={number}\n" for name, number in pinned().items())
    (ROOT / "requirements.txt").write_text(text)
    sys.stdout.write(f"{len(text.splitlines()) - 1} pins written to requirements.txt\n")
