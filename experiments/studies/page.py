"""A Markdown page as one HTML file that needs nothing else: its pictures lie inside it, its style above it."""

import base64
from pathlib import Path

STYLE = """
body { font: 15px/1.55 system-ui, sans-serif; color: #1c2330; max-width: 1160px;
       margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin-bottom: .4rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; margin: .8rem 0; }
.wide { overflow-x: auto; }
th, td { padding: .28rem .7rem; border-bottom: 1px solid #dde2ea; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid #8792a5; font-weight: 600; white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
tbody tr:hover { background: #f3f6fb; } img { max-width: 100%; } em { color: #4a5568; }
code { background: #f0f2f6; padding: .08rem .3rem; border-radius: 3px; font-size: .88em; }
pre { background: #f0f2f6; padding: .8rem 1rem; overflow-x: auto; border-radius: 4px; } pre code { padding: 0; }
blockquote { border-left: 4px solid #5b7db1; margin: 1rem 0; padding: .1rem 1rem; background: #f3f6fb; }
@media (prefers-color-scheme: dark) {
  body { background: #14181f; color: #dde3ec; } th, td { border-color: #333c4a; } em { color: #a5b0c2; }
  code, pre, blockquote, tbody tr:hover { background: #1f2631; } img { background: #fff; }
}
"""


def as_html(markdown: str, folder: Path, title: str) -> str:
    """Return `markdown` as an HTML page whose pictures are read from `folder`.

    Raises:
        FileNotFoundError: if a picture is not there.
    """
    from html import escape

    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown)
    for token in tokens:
        for child in token.children or []:
            if child.type == "image":
                child.attrs["src"] = _embedded(folder / str(child.attrs["src"]))
    body = reader.renderer.render(tokens, reader.options, {})
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _embedded(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
