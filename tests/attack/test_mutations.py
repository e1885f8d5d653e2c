"""Thousands of damaged and odd files: each is refused in one sentence, or read to what the good file holds.

Seeded: a case that fails has its number in the message, and fails alone with `-k`. The slow tests try more,
with `MANY=1000` a thousand of each.
"""

import gzip
import math
import os
import random
import struct
import warnings
from pathlib import Path

import pytest
import yaml

from experiments.config import flatten, resolve
from experiments.run import check_config
from geovae.checks import shown
from geovae.data.builders import BUILDERS
from mlflow_projects.sentences import LETTERS, describe
from tests.attack.formats import FILES, TREES, YAML_TEXT, pixels
from tests.attack.mutations import TEXTS, mutate_bytes, mutate_tree

QUICK, MANY = 40, int(os.environ.get("MANY", "400"))
NUMBERS = [pytest.param(QUICK, id="quick"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]


def attempt(read, path: Path, case: str):
    """Return what `read` returns, or None if it refuses the file as it must: one sentence, and no file is left."""
    before = sorted(path.parent.iterdir())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = read(path)
    except (ValueError, FileNotFoundError) as error:
        sentence = describe(error)
        assert sentence, case
        assert "\n" not in sentence, case
        assert len(sentence) <= LETTERS, case
        result = None
    except Exception as error:
        raise AssertionError(f"{case}: {type(error).__name__} {error}") from error
    assert sorted(path.parent.iterdir()) == before, f"{case}: files are left"
    return result


@pytest.mark.parametrize("n", NUMBERS)
@pytest.mark.parametrize("name", [*FILES, *YAML_TEXT])
def test_damaged_bytes(name, n, tmp_path):
    kind = (FILES | YAML_TEXT)[name]
    path = tmp_path / kind.name
    kind.write(path)
    good, content = kind.read(path), path.read_bytes()
    for number in range(n):
        chance = random.Random(f"{name} {number}")
        mutation, changed = mutate_bytes(content, chance)
        path.write_bytes(changed)
        case = f"{name}, case {number}: {mutation}"
        found = attempt(kind.read, path, case)
        if changed == content or found is None:
            continue
        if kind.sealed:
            assert found == good, f"{case}: other content was read"
        if kind.sized:
            assert len(changed) == len(content), f"{case}: a file of another length was read"


@pytest.mark.parametrize("n", NUMBERS)
@pytest.mark.parametrize("name", TREES)
def test_odd_values_in_yaml(name, n, tmp_path):
    tree, read = TREES[name]
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(tree))
    assert attempt(read, path, name) is not None, "the good file"
    for number in range(n):
        chance = random.Random(f"{name} {number}")
        changed = tree
        for _ in range(chance.randint(1, 2)):
            changed = mutate_tree(changed, chance)
        path.write_text(yaml.safe_dump(changed, allow_unicode=True))
        attempt(read, path, f"{name}, case {number}: {shown(changed)}")


@pytest.mark.parametrize("n", NUMBERS)
@pytest.mark.parametrize("model", ["vae", "rae_gp", "rhvae"])
def test_odd_values_of_options(model, n, tmp_path):
    base = {"data.name": "digits", "model.name": model, "model.network": "mlp"}
    names = [name for name in flatten(resolve(base)) if name not in ("extractor", "device")]
    for number in range(n):
        chance = random.Random(f"{model} {number}")
        given = {chance.choice(names): chance.choice(TEXTS) for _ in range(chance.randint(1, 2))}
        case = f"{model}, case {number}: {shown(given)}"
        config = attempt(lambda path, given=given: check_config(resolve(base | given)), tmp_path / "a", case)
        for name, value in flatten(config or {}).items():
            assert not isinstance(value, float) or math.isfinite(value), f"{case}: {name} is {value}"


def write_digits(folder: Path) -> None:
    """Write the four files of a small MNIST."""
    for name, n in (("train", 12), ("t10k", 4)):
        images = struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28) + pixels(n, 28, 28).tobytes()
        labels = struct.pack(">4BI", 0, 0, 8, 1, n) + bytes(i % 10 for i in range(n))
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, mtime=0))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels, mtime=0))


@pytest.mark.parametrize("n", [12, pytest.param(MANY // 3, id="many", marks=pytest.mark.slow)])
def test_a_build_of_damaged_files_writes_the_same_or_nothing(n, tmp_path):
    write_digits(tmp_path)
    sources = sorted(tmp_path.iterdir())
    contents = [source.read_bytes() for source in sources]

    def build(number: int) -> Path:
        root = tmp_path / f"root{number}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # these files are nobody's published ones
            BUILDERS["mnist"](tmp_path, root, progress=False)
        return root / "mnist"

    good = build(-1)
    expected = {path.name: path.read_bytes() for path in good.rglob("*") if path.suffix in (".npz", ".png")}
    assert len(expected) == 5
    for number in range(n):
        chance = random.Random(f"build {number}")
        place = chance.randrange(len(sources))
        mutation, changed = mutate_bytes(contents[place], chance)
        sources[place].write_bytes(changed)
        case = f"case {number}: {mutation} of {sources[place].name}"
        refused, root = False, tmp_path / f"root{number}"
        try:
            build(number)
        except ValueError:
            refused = True
        found = {path.name: path.read_bytes() for path in root.rglob("*") if path.suffix in (".npz", ".png")}
        assert found == ({} if refused else expected), case
        sources[place].write_bytes(contents[place])
