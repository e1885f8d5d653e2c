"""Seeded mutations of a good file: of its bytes, of the arrays of an npz, and of the tree of a YAML or JSON file."""

import copy
import datetime
import math
import random
import struct
from collections.abc import Callable
from typing import Any

EXTREMES = [
    *(struct.pack(order + kind, value) for order in "<>" for kind, value in (
        ("i", -1), ("i", 0), ("i", 2**31 - 1), ("q", -1), ("q", 2**62), ("h", -1), ("h", 32767),
        ("f", math.nan), ("f", math.inf), ("f", -1e30), ("d", math.nan), ("d", 1e300),
    )),
]  # fmt: skip
ODD: list[Any] = [
    None, True, -1, 0, 1, 3.5, -0.5, math.nan, math.inf, 1e308, 10**12, 2**63, 10**400, "", "x", "²", "--3", "1e400",
    "null", "x" * 5000, "../../etc/passwd", "\u0000", [], [None], [[]], {}, {"x": 1}, {1: 2}, [1, [2, {"a": 3}]],
    datetime.date(2024, 1, 1), b"bytes",
]  # fmt: skip
TEXTS = [
    "-1", "0", "1", "2", "0.5", "-0.5", "1e400", "1e-400", "nan", "inf", "-inf", "--3", "²", "1_000", "0x10", "9" * 30,
    "9" * 400, "null", "true", "x", "x" * 5000, "[1, 2]", "[[[", "{a: 1}", "1,2,,", "prior,prior", "../x", "a\nb",
    "!!python/name:os.system",
]  # fmt: skip
HEAD = 400  # bytes: where headers are


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def append(data: bytes, chance: random.Random) -> bytes:
    return data + chance.randbytes(chance.randint(1, 64))


def flip(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(min(len(data), HEAD) if chance.random() < 0.5 else len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def overwrite(data: bytes, chance: random.Random) -> bytes:
    extreme, place = chance.choice(EXTREMES), chance.randrange(min(len(data), HEAD))
    return (data[:place] + extreme + data[place + len(extreme) :])[: len(data)]


def cut_out(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data))
    return data[:start] + data[start + chance.randint(1, 50) :]


def repeat(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data))
    end = start + chance.randint(1, 50)
    return data[:end] + data[start:]


def blank(data: bytes, chance: random.Random) -> bytes:
    start, n = chance.randrange(len(data)), chance.randint(1, 200)
    return (data[:start] + bytes([chance.choice([0, 255])]) * n + data[start + n :])[: len(data)]


BYTES: list[Callable[[bytes, random.Random], bytes]] = [truncate, append, flip, overwrite, cut_out, repeat, blank]


def mutate_bytes(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Return the name of a mutation, and `data` after it."""
    mutation = chance.choice(BYTES)
    return mutation.__name__, mutation(data, chance)


def mutate_tree(tree: Any, chance: random.Random) -> Any:
    """Return a copy of nested dicts and lists in which one place is replaced, removed, renamed or repeated."""
    changed = copy.deepcopy(tree)
    holders = list(_holders(changed))
    if not holders:
        return chance.choice(ODD)
    holder = chance.choice(holders)
    key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    kind = chance.choice(["replace", "replace", "replace", "remove", "rename", "nest"])
    if kind == "replace":
        holder[key] = copy.deepcopy(chance.choice(ODD))
    elif kind == "nest":
        holder[key] = {"x": holder[key]} if chance.random() < 0.5 else [holder[key]]
    elif kind == "rename" and isinstance(holder, dict):
        holder[chance.choice([str(key)[:-1], f"{key}.x", f"{key}é", 7, ""])] = holder.pop(key)
    else:
        del holder[key]
    return changed


def _holders(tree: Any) -> Any:
    if isinstance(tree, dict | list) and tree:
        yield tree
        for below in tree.values() if isinstance(tree, dict) else tree:
            yield from _holders(below)
