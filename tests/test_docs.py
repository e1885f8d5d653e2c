"""The documentation: every Python block runs, in order, page by page; every YAML study reads; links lead somewhere.

A `bash` block is a server, which is started for the Python blocks below it.
"""

import os
import re
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks.serving import served
from experiments.studies.plan import read_study
from geovae.data import DATASETS
from geovae.evaluation import SCORES
from geovae.models import MODELS
from geovae.samplers import SAMPLERS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVED = "http://127.0.0.1:5001"
TESTED_ELSEWHERE = {"mlflow", "server"}  # they need a registry or a server: tests/mlflow_projects has one
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(page, *languages):
    return [(match[1], match[2]) for match in FENCE.finditer(page.read_text()) if match[1] in languages]


@pytest.fixture
def own_store(tmp_path, monkeypatch):
    """A page may choose a tracking store for this process."""
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
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch, own_store):
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
    """Start what the block starts, on a free port; yield its address."""
    model = re.fullmatch(r"mlflow models serve -m (\S+) --env-manager local --host 127.0.0.1 --port 5001\n", block)
    with served(model[1], os.environ["MLFLOW_TRACKING_URI"], folder=".") as (address, _):
        yield address


def test_yaml_studies_of_the_pages_can_be_read(tmp_path):
    found = [block for page in PAGES for _, block in blocks(page, "yaml") if "sizes:" in block]
    assert found
    for i, block in enumerate(found):
        (tmp_path / f"{i}.yaml").write_text(block)
        assert read_study(str(tmp_path / f"{i}.yaml"), "small").cells


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_links_and_pictures_lead_somewhere(page):
    targets = [link for link in LINK.findall(page.read_text()) if not link.startswith(("http:", "https:"))]
    assert not [link for link in targets if not (page.parent / link).exists()]
