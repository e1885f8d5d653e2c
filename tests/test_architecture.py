"""The import rules of CONTRIBUTING.md, read from the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("geovae", "experiments", "tuning", "mlflow_projects")
LEAVES = {"geovae", "geovae.images", "geovae.codes"}
# room: what it may import of ours beside itself and the leaves
MAY_IMPORT: dict[str, set[str]] = {
    "geovae.images": set(),
    "geovae.codes": set(),
    "geovae.data": set(),
    "geovae.geometry": set(),
    "geovae.evaluation": set(),
    "geovae.figures": set(),
    "geovae.mri": set(),
    "geovae.batches": set(),
    "geovae.training": {"geovae.batches"},
    "geovae.tracking": set(),
    "geovae.models": {"geovae.geometry"},
    "geovae.samplers": {"geovae.geometry"},
    "geovae.checkpoint": {"geovae.models"},
    "experiments": {"geovae"},
    "tuning": {"experiments", "geovae"},
    "mlflow_projects": {"tuning", "experiments", "geovae"},
}
# third-party packages that only some files may import at module level
HEAVY = {"mlflow", "ray", "nibabel", "nilearn", "sklearn", "matplotlib", "pytorch_fid", "torchvision", "PIL", "tqdm"}
MAY_NAME_MLFLOW = ("geovae/tracking/", "tuning/store.py", "mlflow_projects/")

FILES = [path.relative_to(ROOT) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imports(tree: ast.AST) -> set[str]:
    """Return the dotted names of all modules imported below `tree`."""
    nodes = list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def at_run_time(tree: ast.Module) -> list[ast.stmt]:
    """Return the statements of a module without `if TYPE_CHECKING:` blocks."""
    return [s for s in tree.body if not (isinstance(s, ast.If) and ast.unparse(s.test) == "TYPE_CHECKING")]


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2]) if module.startswith("geovae.") else module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_down_only(path):
    tree = ast.parse((ROOT / path).read_text())
    room = room_of(".".join(path.with_suffix("").parts))
    allowed = MAY_IMPORT.get(room, set()) | {room}
    ours = {room_of(name) for name in imports(tree) if name.split(".")[0] in ROOMS} - LEAVES
    if "geovae" in allowed:
        ours = {name for name in ours if not name.startswith("geovae")}
    assert ours <= allowed, f"{path} imports {sorted(ours - allowed)}; see the table in CONTRIBUTING.md"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_own_code_is_imported_at_the_top_of_the_file(path):
    tree = ast.parse((ROOT / path).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {name for function in functions for name in imports(function) if name.split(".")[0] in ROOMS}
    assert not inside


@pytest.mark.parametrize("path", FILES, ids=str)
def test_heavy_packages_load_when_they_are_used(path):
    if path.parts[0] != "geovae":
        return
    tree = ast.parse((ROOT / path).read_text())
    top = set().union(*(imports(s) for s in at_run_time(tree) if isinstance(s, ast.Import | ast.ImportFrom)))
    assert not {name.split(".")[0] for name in top} & HEAVY


@pytest.mark.parametrize("path", FILES, ids=str)
def test_mlflow_and_ray_stay_in_their_rooms(path):
    named = {name.split(".")[0] for name in imports(ast.parse((ROOT / path).read_text()))}
    if "mlflow" in named:
        assert str(path).startswith(MAY_NAME_MLFLOW)
    if "ray" in named:
        assert path.parts[0] == "tuning"


def test_importing_the_library_loads_no_optional_package():
    heavy = HEAVY - {"tqdm"}  # torch itself may load it
    code = (
        "import sys, geovae, geovae.models, geovae.geometry, geovae.samplers, geovae.evaluation, geovae.data, "
        "geovae.images, geovae.training, geovae.checkpoint, geovae.tracking\n"
        f"print(sorted({heavy!r} & {{name.split('.')[0] for name in sys.modules}}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
