"""The import rules of CONTRIBUTING.md, read from the code: one list of rooms, one loop over all files."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("geovae", "experiments", "tuning", "mlflow_projects")
# every room may import these; they import nothing of ours but one another
LEAVES = {f"geovae.{name}" for name in ("checks", "devices", "files", "graphs", "images", "codes", "neighbours")} | {
    "geovae"
}
# (room, what it may import of ours beside itself and the leaves)
RULES: list[tuple[str, set[str]]] = [
    ("geovae.data", set()),
    ("geovae.geometry", set()),
    ("geovae.evaluation", set()),
    ("geovae.figures", set()),
    ("geovae.tracking", set()),
    ("geovae.batches", set()),
    ("geovae.training", {"geovae.batches"}),
    ("geovae.mri", {"geovae.data"}),
    ("geovae.models", {"geovae.geometry"}),
    ("geovae.samplers", {"geovae.geometry"}),
    ("geovae.checkpoint", set()),
    ("geovae.adapters", set()),
    (
        "geovae.saved_model",
        {"geovae.checkpoint", "geovae.models", "geovae.samplers", "geovae.data", "geovae.adapters"},
    ),
    ("geovae.sampling", {"geovae.adapters", "geovae.samplers"}),
    ("experiments", {"geovae"}),
    ("tuning", {"geovae", "experiments"}),
    ("mlflow_projects", {"geovae", "experiments", "tuning"}),
]
# third-party packages that the library imports only inside the function that uses them
HEAVY = {
    "mlflow",
    "ray",
    "nibabel",
    "nilearn",
    "sklearn",
    "matplotlib",
    "pytorch_fid",
    "torchvision",
    "PIL",
    "tqdm",
    "pythae",
    "diffusers",
}
# (package, the only places that import it)
HOMES: list[tuple[str, tuple[str, ...]]] = [
    ("mlflow", ("geovae/tracking/", "tuning/runs.py", "mlflow_projects/")),
    ("ray", ("tuning/",)),
]


def imports(tree: ast.AST) -> set[str]:
    """Return the dotted names of all modules imported below `tree`."""
    nodes = list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def top_package(module: str) -> str:
    return module.split(".")[0]


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2]) if module.startswith("geovae.") else top_package(module)


def violations(path: Path, source: str) -> Iterator[str]:
    """Yield a sentence for each rule that a file of one of the rooms breaks."""
    tree = ast.parse(source)
    named = imports(tree)
    room = room_of(".".join(path.with_suffix("").parts))
    below = dict(RULES).get(room, set())
    ours = {room_of(name) for name in named if top_package(name) in ROOMS} - LEAVES - {room}
    if upward := {name for name in ours if not {name, top_package(name)} & below}:
        yield f"{path} imports {sorted(upward)}, which {room} may not import"

    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {name for function in functions for name in imports(function) if top_package(name) in ROOMS}
    if inside:
        yield f"{path} imports {sorted(inside)} inside a function: import own code at the top of the file"

    # a block `if TYPE_CHECKING:` is no import statement at the top: nothing in it loads
    at_top = [name for s in tree.body if isinstance(s, ast.Import | ast.ImportFrom) for name in imports(s)]
    heavy = {top_package(name) for name in at_top} & HEAVY
    if heavy and path.parts[0] == "geovae":
        yield f"{path} imports {sorted(heavy)} at the top: import it inside the function that uses it"

    for package, homes in HOMES:
        if package in map(top_package, named) and not path.as_posix().startswith(homes):
            yield f"{path} imports {package}; only {', '.join(homes)} may"


def test_the_imports_follow_the_rooms():
    files = [path.relative_to(ROOT) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    found = [sentence for path in files for sentence in violations(path, (ROOT / path).read_text())]
    assert not found, "\n".join(["see the table of rooms in CONTRIBUTING.md", *found])


@pytest.mark.parametrize(
    ("path", "source", "sentence"),
    [
        ("geovae/geometry/a.py", "from geovae.models import vae", "which geovae.geometry may not import"),
        ("geovae/images.py", "import geovae.data", "which geovae.images may not import"),
        ("experiments/a.py", "import tuning.engine", "which experiments may not import"),
        ("tuning/a.py", "def f():\n    from geovae import data", "inside a function"),
        ("geovae/figures/a.py", "import matplotlib.pyplot as plt", "at the top"),
        ("experiments/a.py", "def f():\n    import mlflow", "imports mlflow; only"),
        ("mlflow_projects/a.py", "import ray", "imports ray; only"),
    ],
)
def test_a_broken_rule_is_found(path, source, sentence):
    (found,) = violations(Path(path), source)
    assert sentence in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("geovae/models/a.py", "from geovae.geometry import metric\nfrom geovae.codes import Codes"),
        ("geovae/tracking/a.py", "def f():\n    import mlflow"),
        ("geovae/data/a.py", "if TYPE_CHECKING:\n    from PIL import Image"),
        ("tuning/a.py", "import ray\nfrom experiments import run\nfrom geovae.data import DATASETS"),
    ],
)
def test_what_the_rules_allow_is_not_reported(path, source):
    assert not list(violations(Path(path), source))


def test_importing_the_library_loads_no_optional_package():
    heavy = HEAVY - {"tqdm"}  # torch itself may load it
    code = (
        "import sys, geovae, geovae.models, geovae.geometry, geovae.samplers, geovae.evaluation, geovae.data, "
        "geovae.images, geovae.training, geovae.checkpoint, geovae.saved_model, geovae.tracking\n"
        f"print(sorted({heavy!r} & {{name.split('.')[0] for name in sys.modules}}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_training_loads_no_code_of_brain_volumes():
    code = "import sys, mlflow_projects.train; print([name for name in sys.modules if name.startswith('geovae.mri')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
