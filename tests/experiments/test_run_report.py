"""The page on runs side by side: what it shows of their numbers, and that nothing in a name can become markup."""

import base64
import math
import re
from html.parser import HTMLParser

import pytest

from experiments.run_report import SHOWN, Record, curve_figure, group_runs, write_run_report

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
ATTACK = "</title><script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }} $x$ **y** [z](javascript:z) | _"


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

    def links(self):
        return [value for key, value in self.attributes if key == "href"]

    def pictures(self):
        return [value for key, value in self.attributes if key == "src"]


@pytest.fixture
def render(tmp_path):
    def render(title, records, **more):
        return write_run_report(title, records, tmp_path, **more).read_text()

    return render


def record(name="vae", group="a", seed="0", score=5.0, sampler="prior", **more):
    metrics = {f"val_score/{sampler}/fid": score, f"score/{sampler}/fid": score + 1, f"score/{sampler}/kid": score / 10}
    metrics |= {f"score/{sampler}/prd_f8": 1 / score, "train/loss": 1.0}
    return Record(name, group, seed, headline="fid", metrics=metrics | more.pop("metrics", {}), **more)


def cells(page):
    return [[" ".join(cell.split()) for cell in row] for row in page.rows]


def test_seeds_are_averaged_and_the_best_comes_first(render):
    options = {"model.name": "vae", "model.width": "3"}
    page = Page(
        render(
            "t",
            [
                record("ae", "b", options={"model.name": "ae", "model.width": "3"}, score=8.0),
                record("vae", "a", "0", 4.0, options=options, url="http://x/#/0"),
                record("vae", "a", "1", 6.0, options=options, url="http://x/#/1"),
                record("vae", "a", "1", 99.0, options=options),  # the same run once more does not count
            ],
        )
    )
    table = cells(page)
    lead = ["#", "configuration", "differs in", "sampler"]
    assert table[0] == [*lead, "fid val ↓", "fid test ↓", "KID test ↓", "PRD F8 ↑", "runs by seed"]
    assert table[1] == ["1", "vae", "model.name=vae", "prior", "5.0 ± 1.4", "6.0 ± 1.4", "0.50 ± 0.14"] + [
        "0.208 ± 0.059",
        "0 1",
    ]
    assert table[2] == ["2", "ae", "model.name=ae", "prior", "8.000", "9.000", "0.8000", "0.1250", "0"]
    assert page.tags.count("strong") >= 4
    assert page.links() == ["http://x/#/0", "http://x/#/1"] * 2  # of the scores and of the runs


def test_every_sampler_of_a_run_is_shown_and_the_kernel_distance_beside_the_frechet_distance(render):
    more = {"val_score/mixture/fid": 1.0, "score/mixture/kid": 0.25, "val_score/mixture/n": 9.0}
    table = cells(Page(render("t", [record(metrics=more)])))
    assert [row[3] for row in table[1:3]] == ["mixture", "prior"]
    assert table[1][4:7] == ["1.000", "–", "0.2500"]


def test_warnings_stand_beside_their_run(render):
    table = cells(Page(render("t", [record(warnings=["warning.scores: n = 60", "x"]), record("b", "b")])))
    rows = {row[0]: row for row in table[table.index(next(row for row in table if row[-1] == "warnings")) + 1 :]}
    assert rows["vae"][-1] == "warning.scores: n = 60; x"
    assert rows["b"][-1] == ""


def test_a_run_that_has_drawn_nothing_is_listed_without_scores(render):
    table = cells(Page(render("t", [Record("young", "g", "0", headline="", metrics={"train/loss": 1.0}), record()])))
    assert ["2", "young", "", "", "–", "–", "–", "–", "0"] in table


def test_curves_leave_out_what_is_not_finite_and_use_a_logarithm_over_wide_ranges():
    wide = record(curves={"val/loss": [(1, 100.0), (2, math.nan), (3, 1.0)], "train/loss": [(1, -1.0), (2, 1.0)]})
    figure = curve_figure(group_runs([wide]))
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    assert [tuple(point) for point in panels["val/loss"].lines[0].get_xydata()] == [(1.0, 100.0), (3.0, 1.0)]
    assert panels["val/loss"].get_yscale() == "log"
    assert panels["train/loss"].get_yscale() == "linear"


def test_pictures_lie_side_by_side_within_the_page(render):
    pictures = {"samples/prior": PNG, "figures/latent_map.png": PNG}
    page = Page(render("t", [record("a", "a", pictures=pictures), record("b", "b", pictures={"samples/prior": PNG})]))
    assert page.pictures() == [f"data:image/png;base64,{base64.b64encode(PNG).decode()}"] * 3
    table = cells(page)
    assert table[-3] == ["", "a", "b"]
    assert table[-1] == ["figures/latent_map.png", "", "–"]


def test_nothing_in_a_name_becomes_markup(render):
    hostile = record(
        ATTACK,
        ATTACK,
        ATTACK,
        sampler="s<b>",
        url="http://x/" + ATTACK,
        options={ATTACK: ATTACK},
        curves={ATTACK: [(1, 2.0), (2, 1.0)]},
        pictures={ATTACK: PNG},
        warnings=[ATTACK],
    )
    text = render(ATTACK, [hostile, record(options={ATTACK: "other"})], note=ATTACK)
    page = Page(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    assert all(value.startswith("data:image/png;base64,") for value in page.pictures())
    assert all(value.startswith("http://x/") for value in page.links())
    assert page.text.count(" ".join(ATTACK.split())) >= 5
    assert "default-src 'none'" in text


def test_many_configurations_are_all_in_the_table_but_not_all_shown(render):
    records = [record(f"r{i}", str(i), score=1.0 + i, pictures={"a": PNG}) for i in range(SHOWN + 3)]
    page = Page(render("t", records))
    assert len([row for row in cells(page) if re.fullmatch(r"\d+", row[0])]) == SHOWN + 3
    assert page.tags.count("img") == SHOWN
    assert "3 more are in the tables only" in page.text


def test_an_empty_list_of_runs_is_refused(render):
    with pytest.raises(ValueError, match="there is no run to report on"):
        render("t", [])
