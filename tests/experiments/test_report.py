"""The HTML page: what it says of the numbers, and that nothing in a name can become markup."""

import base64
import math
from html.parser import HTMLParser

import pytest

from experiments.report import HEIGHT, SHOWN, WIDTH, Record, render

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
ATTACK = "</title><script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}"


class Page(HTMLParser):
    """The elements of a page, its attributes, and the texts of its cells by row."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.rows, self.text, self._cell = [], [], [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self.rows[-1][-1] += data


def record(name="vae", group="a", seed="0", score=5.0, **more):
    metrics = {"best/fid": score, "score/fid": score + 1, "score/prd_f8": 1 / score, "train/loss": 1.0}
    return Record(name, group, seed, metrics=metrics | more.pop("metrics", {}), **more)


def cells(page):
    return [[" ".join(cell.split()) for cell in row] for row in page.rows]


def test_seeds_are_averaged_and_the_best_comes_first():
    page = Page(
        render(
            "t",
            [
                record("ae", "b", options={"model.name": "ae", "model.width": "3"}, score=8.0),
                record("vae", "a", "0", 4.0, options={"model.name": "vae", "model.width": "3"}),
                record("vae", "a", "1", 6.0, options={"model.name": "vae", "model.width": "3"}),
                record("vae", "a", "1", 99.0),  # the same run once more does not count
            ],
        )
    )
    table = cells(page)
    assert table[0] == ["#", "configuration", "differs in", "seeds", "best/fid ↓", "score/fid ↓", "score/prd_f8 ↑"]
    assert table[1] == ["1", "vae", "model.name=vae", "2", "5 ± 1.4", "6 ± 1.4", "0.2083 ± 0.059"]
    assert table[2] == ["2", "ae", "model.name=ae", "1", "8", "9", "0.125"]
    assert page.attributes.count(("class", "best")) == 3


def test_curves_keep_their_ends_and_leave_out_what_is_not_finite():
    text = render("t", [record(curves={"val/loss": [(1, 100.0), (2, math.nan), (3, 1.0)]})])
    assert f'points="0.0,0.0 {WIDTH}.0,{HEIGHT}.0"' in text
    assert "logarithmic" in text
    assert "nan" not in text


def test_pictures_lie_side_by_side_within_the_page():
    picture = {"samples/prior": PNG, "figures/latent_map.png": PNG}
    page = Page(render("t", [record("a", "a", pictures=picture), record("b", "b", pictures=picture)]))
    sources = [value for key, value in page.attributes if key == "src"]
    assert sources == [f"data:image/png;base64,{base64.b64encode(PNG).decode()}"] * 4


def test_nothing_in_a_name_becomes_markup():
    hostile = record(
        ATTACK,
        ATTACK,
        ATTACK,
        run_id=ATTACK,
        options={ATTACK: ATTACK},
        metrics={f"score/{ATTACK}": 1.0},
        curves={ATTACK: [(1, 2.0), (2, 1.0)]},
        pictures={ATTACK: PNG},
        notes=[ATTACK],
    )
    text = render(ATTACK, [hostile, record(options={ATTACK: "other"})], note=ATTACK)
    page = Page(text)
    assert "script" not in page.tags
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    assert {value for key, value in page.attributes if key == "src"} == {
        f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    }
    assert ATTACK in page.text
    assert "default-src 'none'" in text


def test_many_configurations_are_all_in_the_table_but_not_all_shown():
    page = Page(render("t", [record(f"r{i}", str(i), score=1.0 + i, pictures={"a": PNG}) for i in range(SHOWN + 3)]))
    assert len([row for row in cells(page) if len(row) == 7]) == SHOWN + 3 + 1
    assert page.tags.count("img") == SHOWN
    assert "3 more are in the table only" in page.text


def test_no_run_is_said():
    with pytest.raises(ValueError, match="there is no run to report on"):
        render("t", [])
