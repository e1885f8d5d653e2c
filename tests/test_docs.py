"""The documentation: every Python block runs, in order, page by page; every YAML study reads; links lead somewhere."""

import re
from pathlib import Path

import pytest

from experiments.studies.plan import read_study
from geovae.data import DATASETS, IMAGE_SHAPES
from geovae.models import MODELS
from geovae.samplers import SAMPLERS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TESTED_ELSEWHERE = {"mlflow", "server"}  # they need a registry or a server: tests/mlflow_projects has one
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(page, language):
    return [match[2] for match in FENCE.finditer(page.read_text()) if match[1] == language]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of small sample sizes
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "python") and page.stem not in TESTED_ELSEWHERE],
    ids=lambda page: page.stem,
)
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registries = (DATASETS, IMAGE_SHAPES, MODELS, SAMPLERS)  # a tutorial adds to them
    before = [dict(registry) for registry in registries]
    space = {"__name__": page.stem}
    try:
        for block in blocks(page, "python"):
            exec(compile(block, str(page), "exec"), space)
    finally:
        for registry, entries in zip(registries, before, strict=True):
            registry.clear()
            registry.update(entries)


def test_yaml_studies_of_the_pages_can_be_read(tmp_path):
    found = [block for page in PAGES for block in blocks(page, "yaml") if "sizes:" in block]
    assert found
    for i, block in enumerate(found):
        (tmp_path / f"{i}.yaml").write_text(block)
        assert read_study(str(tmp_path / f"{i}.yaml"), "small").cells


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_links_and_pictures_lead_somewhere(page):
    targets = [link for link in LINK.findall(page.read_text()) if not link.startswith(("http:", "https:"))]
    assert not [link for link in targets if not (page.parent / link).exists()]
