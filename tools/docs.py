"""Build the documentation into `site/`: README and docs/*.md as pages, the API reference by pdoc. `make docs`.

Whatever is wrong stops the build: a link or picture that leads nowhere, a formula that cannot be read, a warning.
Formulas become MathML, so that the pages need no network.
"""

import importlib
import pkgutil
import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import geovae
from experiments.studies.page import STYLE

ROOT = Path(__file__).parents[1]
SITE = ROOT / "site"
ROOMS = ("geovae", "experiments", "tuning")
PROSE = "th, td { text-align: left; white-space: normal; } nav { font-size: .9rem; }"
NAV = (
    "index",
    "method",
    "temperature",
    "diagnostics",
    "scores",
    "studies",
    "oasis",
    "clusters",
    "mlflow",
    "server",
    "scaling",
    "names",
)


def main() -> None:
    """Build everything; exit with 1 and a list if something leads nowhere."""
    warnings.simplefilter("error")
    shutil.rmtree(SITE, ignore_errors=True)
    pages = {ROOT / "README.md": Path("readme.html")} | {
        page: page.relative_to(ROOT / "docs").with_suffix(".html") for page in sorted((ROOT / "docs").rglob("*.md"))
    }
    problems = [problem for page, target in pages.items() for problem in write_page(page, target, pages)]
    write_reference()
    if problems:
        raise SystemExit("\n".join(problems))
    sys.stdout.write(f"{len(pages)} pages and the reference in {SITE}\n")


def write_page(page: Path, target: Path, pages: dict[Path, Path]) -> list[str]:
    """Write one Markdown file as HTML; return what is wrong with its links."""
    text = page.read_text()
    tokens = reader().parse(text)
    up = "../" * (len(target.parts) - 1)
    problems = []
    for token in [child for block in tokens for child in block.children or []]:
        key = {"link_open": "href", "image": "src"}.get(token.type, "")
        if not key or re.match(r"(https?:|#)", token.attrs[key]):
            continue
        path, hash_, anchor = token.attrs[key].partition("#")
        found = (page.parent / path).resolve()
        if not found.is_file():
            problems.append(f"{page.relative_to(ROOT)}: {token.attrs[key]} leads nowhere")
        else:
            place = pages[found].as_posix() if found in pages else _copied(found)
            token.attrs[key] = up + place + hash_ + anchor
    body = reader().renderer.render(tokens, reader().options, {})
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    links = " · ".join(
        [f'<a href="{up}{name}.html">{name}</a>' for name in NAV if (ROOT / "docs" / f"{name}.md").exists()]
        + [f'<a href="{up}api/index.html">reference</a>']
    )
    (SITE / target).parent.mkdir(parents=True, exist_ok=True)
    (SITE / target).write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading[1] if heading else page.stem} · geovae</title><style>{STYLE}{PROSE}</style></head>\n"
        f"<body><nav>{links}</nav>\n{body}</body></html>\n"
    )
    return problems


def reader() -> Any:
    """Return a Markdown reader with tables, anchors and formulas."""
    from latex2mathml.converter import convert
    from markdown_it import MarkdownIt
    from mdit_py_plugins.anchors import anchors_plugin
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    def formula(text: str, options: dict[str, bool]) -> str:
        return convert(text, display="block" if options["display_mode"] else "inline")

    plain = MarkdownIt("commonmark").enable("table")
    return plain.use(anchors_plugin, max_level=3).use(dollarmath_plugin, renderer=formula, double_inline=True)


def _copied(file: Path) -> str:
    """Copy a file that a page shows or offers into the site; return where it lies there."""
    place = Path("files") / file.relative_to(ROOT)
    (SITE / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, SITE / place)
    return place.as_posix()


def write_reference() -> None:
    """Write the reference of all modules; a module that cannot be read is an error."""
    import pdoc

    pdoc.render.configure(docformat="google", math=False, search=True, footer_text=f"geovae {geovae.__version__}")
    names = [name for room in ROOMS for name in _modules(room)]
    reached = set(pdoc.extract.walk_specs(ROOMS))  # a package with __all__ hides its modules
    pdoc.pdoc(*ROOMS, *(name for name in names if name not in reached), output_directory=SITE / "api")


def _modules(room: str) -> list[str]:
    """Return the dotted names of all modules below a package."""
    package = importlib.import_module(room)
    return [found.name for found in pkgutil.walk_packages(package.__path__, f"{room}.")]


if __name__ == "__main__":
    main()
