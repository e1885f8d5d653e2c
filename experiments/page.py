"""The page that every report is: its parts in reading order as `report.md`, and as one HTML file that needs no other.

A part is Markdown, a figure, a table of pictures, or a table of numbers that lies beside the page as CSV.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from experiments.tables import Cell, Markdown, as_csv, as_markdown, escape

if TYPE_CHECKING:
    from markdown_it.token import Token
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its file without `.png`, and what it shows."""

    name: str
    caption: str
    figure: "Figure"


@dataclass(frozen=True)
class Gallery:
    """A table of PNG files: a column for each of `columns`, rows by their names, None where a picture is missing."""

    columns: Sequence[str]
    rows: Mapping[str, Sequence[bytes | None]]


@dataclass(frozen=True)
class Numbers:
    """A table for programs: the name of its file without `.csv`, the heads of its columns, its rows."""

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]


Part = str | Picture | Gallery | Numbers


def write_page(title: str, parts: Sequence[Part], folder: Path) -> list[Path]:
    """Write report.md, report.html, figures and CSV files into `folder`.

    Returns:
        The paths of the files below `folder`.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    files = [Path("report.md"), Path("report.html")]
    text = "\n\n".join(page.strip("\n") for part in parts if (page := _write_part(part, folder, files))) + "\n"
    (folder / "report.md").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(as_html(text, folder, title), encoding="utf-8")
    return files


def _write_part(part: Part, folder: Path, files: list[Path]) -> str:
    """Write the files of a part, add them to `files`, and return the part as Markdown."""
    if isinstance(part, str):
        return part
    if isinstance(part, Numbers):
        files.append(Path(f"{file_name(part.name)}.csv"))
        (folder / files[-1]).write_text(as_csv(part.head, part.rows), encoding="utf-8")
        return ""
    if isinstance(part, Picture):
        files.append(Path("figures", f"{file_name(part.name)}.png"))
        part.figure.savefig(folder / files[-1], dpi=110)
        caption = escape(part.caption)
        return f"![{caption}]({files[-1].as_posix()})\n\n*{caption}*"
    return as_markdown(["", *part.columns], _gallery_rows(part, folder, files))


def _gallery_rows(gallery: Gallery, folder: Path, files: list[Path]) -> Iterator[list[Cell]]:
    for name, pictures in gallery.rows.items():
        cells: list[Cell] = [name]
        for picture in pictures:
            if picture is None:
                cells.append(None)
                continue
            files.append(Path("figures", f"{len(files)}.png"))
            (folder / files[-1]).write_bytes(picture)
            cells.append(Markdown(f"![{escape(name)}]({files[-1].as_posix()})"))
        yield cells


def file_name(name: str) -> str:
    """Return `name` without what leads out of a folder or ends a link in Markdown."""
    return re.sub(r"[^\w-]+", "-", name)


def as_html(markdown: str, folder: Path, title: str) -> str:
    """Return `markdown` as an HTML page that holds its pictures; HTML within the Markdown is shown as text.

    Only PNG files of `folder` are embedded: in place of any other picture, or of one that is not there, stands its
    caption. Links to runs without a server lead nowhere from a file: only their text is kept.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown)
    for token in tokens:
        for child in token.children or []:
            if child.type == "image":
                _embed(child, folder)
        token.children = _without_local_links(token.children) if token.children else token.children
    body = reader.renderer.render(tokens, reader.options, {})
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    pages = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    return pages.get_template("page.html").render(title=title, body=body)


def _without_local_links(children: "list[Token]") -> "list[Token]":
    """Return the parts of a line without links within MLflow's UI (`#/experiments/...`), but with their texts."""
    kept, closing = [], 0
    for child in children:
        if child.type == "link_open" and str(child.attrs.get("href", "")).startswith("#/"):
            closing += 1
        elif child.type == "link_close" and closing:
            closing -= 1
        else:
            kept.append(child)
    return kept


def _embed(image: "Token", folder: Path) -> None:
    source = unquote(str(image.attrs["src"]))
    path = (folder / source).resolve()
    if ":" in source or path.suffix != ".png" or not path.is_relative_to(folder.resolve()):
        # a study's file may name any picture: neither this machine's files nor other hosts' belong into the page
        image.type, image.tag = "text", ""
        return
    if not path.is_file():  # a picture that a study's text names and does not bring: its caption stands there
        image.type, image.tag = "text", ""
        return
    image.attrs["src"] = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
