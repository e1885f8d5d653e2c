"""The start of a program that finds no packages but some and their requirements: `allow(names)`."""

ISOLATED = """
import sys
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

def closure(names):
    found, waiting = set(), list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            try:
                needed = [Requirement(text) for text in requires(name) or []]
            except PackageNotFoundError:
                continue
            waiting += [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found

def allow(names):
    allowed = closure(names)

    class OnlyTheRequirements(PathFinder):
        tops = {top: {canonicalize_name(d) for d in owners} for top, owners in packages_distributions().items()}
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            owners = cls.tops.get(name.partition(".")[0], set())
            return None if owners and not owners & allowed else super().find_spec(name, path, target)

    sys.meta_path = [OnlyTheRequirements if finder is PathFinder else finder for finder in sys.meta_path]

"""
