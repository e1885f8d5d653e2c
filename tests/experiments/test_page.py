"""The page: it needs nothing beside it, embeds nothing but its own figures, and runs no foreign code."""

import base64

import pytest
from matplotlib.figure import Figure

from experiments.help import run_url
from experiments.page import Gallery, Numbers, Picture, as_html, write_page
from experiments.tables import as_markdown


def test_a_page_holds_its_pictures_and_runs_no_foreign_code(tmp_path):
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    text = "# A & B\n\n<script>alert(1)</script>\n\n![c](x.png)\n\n" + as_markdown(["a"], [["1|2"]])
    page = as_html(text, tmp_path, "A & B")
    assert '<img src="data:image/png;base64,iVBORw=="' in page
    assert "<script>" not in page
    assert "<title>A &amp; B</title>" in page
    assert ">1|2</td>" in page
    assert "<img" not in (missing := as_html("![its caption](y.png)", tmp_path, "t")), "the report is written even so"
    assert "its caption" in missing


def test_links_within_the_ui_are_text_in_a_page_that_is_opened_from_disk(tmp_path):
    page = as_html(
        "a [run](#/experiments/1/runs/r) and [another **one**](http://h/#/experiments/1/runs/r).", tmp_path, "t"
    )
    assert page.count("<a ") == page.count("</a>") == 1
    assert "a run and" in page
    assert 'href="http://h/#/experiments/1/runs/r"' in page


@pytest.mark.parametrize("name", ["../secret.png", "%2e%2e/secret.png", "{absolute}", "link.png", "notes.txt"])
@pytest.mark.parametrize("scheme", ["", "file://", "http://host/"])
def test_only_figures_of_the_reports_own_folder_are_embedded(tmp_path, name, scheme):
    folder = tmp_path / "report"
    folder.mkdir()
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    (folder / "link.png").symlink_to(secret)
    (folder / "notes.txt").write_bytes(b"secret")
    page = as_html(f"![the caption]({scheme}{name.format(absolute=secret)})", folder, "t")
    assert base64.b64encode(b"secret").decode() not in page
    assert "<img" not in page
    assert "the caption" in page


def test_all_parts_of_a_page_are_written_below_its_folder(tmp_path):
    parts = [
        "# Title",
        Picture("../a b/c", "the [caption]", Figure(figsize=(1, 1))),
        Gallery(["one", "two"], {"row": [b"\x89PNG", None]}),
        Numbers("numbers-x/y", ["a", "b"], [["1,5", 2.5]]),
    ]
    files = write_page("Title", parts, tmp_path / "page")
    assert sorted(map(str, files)) == [
        "figures/-a-b-c.png",
        "figures/3.png",
        "numbers-x-y.csv",
        "report.html",
        "report.md",
    ]
    assert sorted(path.relative_to(tmp_path / "page") for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        files
    )
    assert (tmp_path / "page" / "numbers-x-y.csv").read_text() == 'a,b\n"1,5",2.5\n'
    page = (tmp_path / "page" / "report.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == 2
    assert "<em>the [caption]</em>" in page


def test_addresses_of_runs_hold_no_password():
    assert (
        run_url("http://u:secret@host:1/", "2", "r")
        == "http://host:1/#/experiments/2/runs/r?workflowType=machine_learning"
    )
    assert run_url("sqlite:///mlflow.db", "2", "r") == "#/experiments/2/runs/r?workflowType=machine_learning"
