"""Write requirements.txt, -dev.txt and -docs.txt: the installed version of each package that the project needs.

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
RUNNING = ("all",)
FILES = {
    "requirements.txt": (RUNNING, "the versions that the tests passed with"),
    "requirements-dev.txt": ((*RUNNING, "test"), "what the tests need beside requirements.txt"),
    "requirements-docs.txt": ((*RUNNING, "docs"), "what `make docs` needs beside the other two"),
}
HEADER = "# Generated from pyproject.toml by `make requirements`: {}.\n"


def declared(extras: Sequence[str] = RUNNING) -> list[Requirement]:
    """Return the requirements that pyproject.toml declares, with those of the extras and of the extras in these."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [Requirement(name) for extra in extras for name in project["optional-dependencies"][extra]]
    further = [extra for requirement in named if requirement.name == project["name"] for extra in requirement.extras]
    own = declared(further) if further else [Requirement(name) for name in project["dependencies"]]
    return own + [requirement for requirement in named if requirement.name != project["name"]]


def pinned(extras: Sequence[str] = RUNNING) -> dict[str, str]:
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
    """Write the three files, one after the other; each lists what those before it do not."""
    known: dict[str, str] = {}
    for name, (extras, comment) in FILES.items():
        pins = {package: number for package, number in pinned(extras).items() if package not in known}
        write(ROOT / name, comment, pins)
        known |= pins


if __name__ == "__main__":
    main()
