"""The documentation: the Python blocks run in order, page by page; the YAML studies can be read; links and files exist.

A `bash` block starts a server for the Python blocks below it.
"""

import os
import re
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.serving import served
from experiments.studies.plan import read_study
from geovae.data import DATASETS
from geovae.evaluation import SCORES
from geovae.models import MODELS
from geovae.samplers import SAMPLERS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
WRITTEN = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md")), *PAGES]
TRACKED = {"geovae", "experiments", "tuning", "mlflow_projects", "docs", "tools", "tests", "benchmarks"}
BY_THE_READER = {  # a tutorial asks its reader to write these
    "geovae/data/squares.py",
    "geovae/models/laplace.py",
    "geovae/samplers/posterior.py",
    "geovae/evaluation/energy.py",
    "experiments/configs/squares.yaml",
}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVED = "http://127.0.0.1:5001"
TESTED_ELSEWHERE = {"mlflow", "server", "start"}  # these pages need a registry or a server: see tests/mlflow_projects
FOREIGN = {"elsewhere": ("diffusers", "pythae")}  # packages of others that a page is about
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(page, *languages):
    return [(match[1], match[2]) for match in FENCE.finditer(page.read_text()) if match[1] in languages]


@pytest.fixture
def own_store(tmp_path, monkeypatch):
    """A page may set the tracking store of this process."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of small sample sizes
@pytest.mark.filterwarnings("ignore:.*model.*:FutureWarning")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "python") and page.stem not in TESTED_ELSEWHERE],
    ids=lambda page: page.stem,
)
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch, own_store, torchvision_or_none):
    for package in FOREIGN.get(page.stem, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the processes that a block starts: readers work in the repository
    registries = (DATASETS, MODELS, SAMPLERS, SCORES)  # a tutorial adds to them
    before = [dict(registry) for registry in registries]
    space, address = {"__name__": page.stem}, SERVED
    with ExitStack() as servers:
        try:
            for language, block in blocks(page, "python", "bash"):
                if language == "bash":
                    address = servers.enter_context(serve(block))
                else:
                    exec(compile(block.replace(SERVED, address), str(page), "exec"), space)
        finally:
            for registry, entries in zip(registries, before, strict=True):
                registry.clear()
                registry.update(entries)


@contextmanager
def serve(block):
    """Start the server of the block, on a free port; yield its address."""
    model = re.fullmatch(r"mlflow models serve -m (\S+) --env-manager local --host 127.0.0.1 --port 5001\n", block)
    with served(model[1], os.environ["MLFLOW_TRACKING_URI"], folder=".") as (address, _):
        yield address


def test_yaml_studies_of_the_pages_can_be_read(tmp_path):
    found = [block for page in PAGES for _, block in blocks(page, "yaml") if "sizes:" in block]
    assert found
    for i, block in enumerate(found):
        (tmp_path / f"{i}.yaml").write_text(block)
        assert read_study(str(tmp_path / f"{i}.yaml"), "small").cells


def test_the_readme_samples_any_autoencoder():
    (block,) = [block for _, block in blocks(ROOT / "README.md", "python") if "geovae.sample(" in block]
    space = {}
    exec(compile(block, "README.md", "exec"), space)  # nothing is defined: it is pasted as it is
    assert space["new"].shape == (64, 1, 8, 8)
    assert space["new"].dtype == torch.uint8


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_files_and_programs_that_a_page_names_exist(page):
    text = page.read_text()
    programs = {name.replace(".", "/") for name in re.findall(r"python -m ((?:mlflow_projects|tools)\.\w+)", text)}
    files = {name for name in re.findall(r"`((?:\w+/)+[\w.]*)`", text) if name.split("/")[0] in TRACKED}
    missing = [name for name in programs if not (ROOT / f"{name}.py").is_file()]
    missing += [name for name in files - BY_THE_READER if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_commands_that_a_page_shows_name_entry_points_and_targets(page):
    text = page.read_text()
    points = set(re.findall(r"mlflow run [^\n`|]*? -e (\w+)", text))
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert points <= yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"].keys()
    assert targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_links_and_pictures_lead_somewhere(page):
    targets = [link for link in LINK.findall(page.read_text()) if not link.startswith(("http:", "https:"))]
    assert not [link for link in targets if not (page.parent / link).exists()]
