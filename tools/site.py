"""MkDocs hooks (see mkdocs.yml): pages from outside docs/, the notebook, a reference page a module, formulas as MathML.

Formulas are converted while the site is built, so that a page needs no script from another host.
"""

import base64
import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOMS = ("geovae", "experiments", "tuning", "mlflow_projects")
# page of the site: file of the repository
OUTSIDE = {
    "readme.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "results.md": "benchmarks/RESULTS.md",
    "tour.md": "docs/tour.ipynb",
}
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)]*)?\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the formulas and the reference's part of the navigation."""
    config.markdown_extensions.append(Formulas())
    config.nav = [*(config.nav or []), {"Reference": [_navigation(ROOT / room) for room in ROOMS]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no Markdown in docs/."""
    for page, source in OUTSIDE.items():
        text = (ROOT / source).read_text()
        pictures, text = _notebook(text) if source.endswith(".ipynb") else ([], text)
        files.append(File.generated(config, page, content=text))
        for number, picture in enumerate(pictures):
            files.append(File.generated(config, f"tour-{number}.png", content=picture))
    for module in _modules():
        text = f"---\ntitle: {_dotted(module).rpartition('.')[2]}\n---\n\n::: {_dotted(module)}\n"
        files.append(File.generated(config, _reference(module), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links between files of the repository lead to the pages made of them."""
    here = page.file.src_uri
    source = ROOT / OUTSIDE[here] if here in OUTSIDE else DOCS / here

    def translate(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / link[2]))
        pages = {ROOT / file: DOCS / name for name, file in OUTSIDE.items()}
        return f"{link[1]}{os.path.relpath(pages.get(target, target), (DOCS / here).parent)}{link[3]}"

    return markdown if here.startswith("reference/") else LINK.sub(translate, markdown)


def _notebook(text: str) -> tuple[list[bytes], str]:
    """Return the pictures of an executed notebook, and its cells and output as Markdown."""
    pictures: list[bytes] = []
    parts: list[str] = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
        for output in cell.get("outputs", ()):
            if picture := output.get("data", {}).get("image/png"):
                parts.append(f"![Output of the cell above](tour-{len(pictures)}.png)")
                pictures.append(base64.b64decode("".join(picture)))
            elif "text" in output:
                parts.append(f"```text\n{''.join(output['text'])}```")
    return pictures, "\n\n".join(parts)


def _modules() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def _dotted(module: Path) -> str:
    """Return the name by which a module is imported."""
    return ".".join(module.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _reference(module: Path) -> str:
    """Return the page of a module; a package's page is the index of its folder."""
    page = "index" if module.stem == "__init__" else module.stem
    return f"reference/{module.relative_to(ROOT).parent.as_posix()}/{page}.md"


def _navigation(package: Path) -> dict[str, list[Any]]:
    """Return a package's part of the navigation: its own page, its modules, its packages."""
    modules = [package / "__init__.py", *(p for p in sorted(package.glob("*.py")) if p.stem != "__init__")]
    packages = sorted(path.parent for path in package.glob("*/__init__.py"))
    return {package.name: [*(_reference(m) for m in modules if m.exists()), *map(_navigation, packages)]}


class Formulas(Extension):
    """Markdown extension: `$...$` and `$$...$$` become MathML."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Register the pattern after code spans (190) and before backslash escapes (180)."""
        md.inlinePatterns.register(_Formula(r"(\$\$?)(?!\s*\$)([^$]+)\1", md), "formula", 185)


class _Formula(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[ElementTree.Element | str, int, int]:
        display = "block" if m[1] == "$$" else "inline"
        return self.md.htmlStash.store(convert(m[2].strip(), display=display)), m.start(), m.end()
