"""Write requirements.txt and requirements-docs.txt: the installed version of each package that the project needs.

pyproject.toml declares the packages; what these require is followed recursively. Run it (`make requirements`) in an
environment in which the tests passed. The packages of CUDA are left out: torch chooses them itself.
"""

import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
EXTRAS = ("mri", "test")
HEADER = "# Generated from pyproject.toml by `make requirements`: {}.\n"


def declared(extras: Sequence[str] = EXTRAS) -> list[Requirement]:
    """Return the requirements that pyproject.toml declares, with those of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [*project["dependencies"], *(name for extra in extras for name in project["optional-dependencies"][extra])]
    return [Requirement(name) for name in names]


def pinned(extras: Sequence[str] = EXTRAS) -> dict[str, str]:
    """Return the installed version of every declared distribution and, recursively, of what it requires."""
    pins: dict[str, str] = {}
    waiting = declared(extras)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            found = version(name).partition("+")[0]  # torch 2.13.0+cpu is 2.13.0 for everybody else
        except PackageNotFoundError:
            if name.startswith(("nvidia-", "cuda-")) or name == "triton":
                continue
            raise SystemExit(f"{name} is required but not installed: run `make setup` and `make docs` first") from None
        if name not in pins or requirement.extras:
            pins[name] = found
            waiting += [r for text in requires(name) or [] if _applies(r := Requirement(text), requirement.extras)]
    return dict(sorted(pins.items()))


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def write(path: Path, comment: str, pins: dict[str, str]) -> None:
    """Write a file of pins, a line each."""
    path.write_text(HEADER.format(comment) + "".join(f"{name}=={number}\n" for name, number in pins.items()))
    sys.stdout.write(f"{len(pins)} pins written to {path.name}\n")


def main() -> None:
    """Write both files."""
    pins = pinned()
    more = {name: number for name, number in pinned((*EXTRAS, "docs")).items() if name not in pins}
    write(ROOT / "requirements.txt", "the versions that the tests passed with", pins)
    write(ROOT / "requirements-docs.txt", "what `make docs` needs beside requirements.txt", more)


if __name__ == "__main__":
    main()
