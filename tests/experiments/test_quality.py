"""What is shown of a cohort: complete, small enough for a browser, and without ids where these must not be seen."""

import csv
import html
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.quality import track_quality, viewer_page
from geovae.mri import Volume, write_cohort
from geovae.tracking import NullTracker
from tests.mri.originals import prepare_with as prepare

MEGABYTE = 1_000_000


class Folder(NullTracker):
    """A tracker that keeps artifacts in a folder, as MLflow would."""

    def __init__(self, root):
        self.root = root

    def _place(self, name):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def figure(self, name, figure):
        figure.savefig(self._place(name), dpi=110)

    def image(self, key, image, *, step=0):
        Image.fromarray(image).save(self._place(f"{key}.png"))

    def text(self, name, text):
        self._place(name).write_text(text)

    def artifact(self, path, folder=""):
        self._place(f"{folder}/{path.name}").write_bytes(path.read_bytes())

    def names(self):
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A root with eight prepared subjects at 4 mm, two slices each."""
    root = tmp_path_factory.mktemp("oasis")
    write_cohort(root / "source", subjects=8, voxel=4)
    prepare(root / "source", root, spacing=4.0, shape=(44, 52, 44), at=(0.45, 0.55), workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def kept(prepared, tmp_path_factory):
    """The tracked files of the eight."""
    folder = Folder(tmp_path_factory.mktemp("kept"))
    track_quality(folder, prepared)
    return folder


def test_quality_is_complete_and_small(kept):
    tables = ["qc/manifest.csv", "qc/prepare.json", "qc/qc_table.csv"]
    pictures = ["histograms", "mean_and_sd", "mosaic", *(f"orthogonal_{i + 1}" for i in range(8))]
    pages = ["qc/report.html", "qc/viewer.html"]
    assert kept.names() == sorted([*tables, *(f"qc/{name}.png" for name in pictures), *pages])
    assert max(p.stat().st_size for p in kept.root.rglob("*.*") if p.name != "report.html") < MEGABYTE
    assert "OAS1_0001_MR1" in (kept.root / "qc" / "viewer.html").read_text()


def test_the_report_is_one_page_that_says_everything_in_order(kept):
    page = (kept.root / "qc" / "report.html").read_text()
    heads = [
        "Whom to look at",
        "Left out",
        "Problems and remarks",
        "The cohort",
        "Sessions",
        "What was done",
        "Settings",
    ]
    assert [head for _, head in re.findall(r"<h(2)>(.+?)</h2>", page)] == heads
    assert page.count('src="data:image/png;base64,') == 11
    assert not re.search(r'(src|href)="(?!data:)', page)
    for said in (
        "radiological: the patient's left (L) is on the right",
        "the table of OASIS-1",
        "geovae 0.1.0",
        "[0.45",
    ):
        assert said in html.unescape(page)
    assert len(page) < 4 * MEGABYTE


def test_flagged_sessions_and_reasons_stand_in_the_report(tmp_path, prepared):
    shutil.copytree(prepared / "source", tmp_path / "source")
    path = next((tmp_path / "source").rglob("OAS1_0007_MR1*.img"))
    data = np.fromfile(path, ">i2").reshape((44, 52, 44), order="F")
    path.write_bytes(data[:, ::-1].tobytes(order="F"))
    (tmp_path / "out.csv").write_text("id,reason\nOAS1_0002,moved <much>\n")
    options = {"spacing": 4.0, "shape": (44, 52, 44), "workers": 1, "progress": False}
    prepare(tmp_path / "source", tmp_path, **options, exclude=tmp_path / "out.csv")
    kept = Folder(tmp_path / "kept")
    track_quality(kept, tmp_path, shown=2)
    page = html.unescape((tmp_path / "kept" / "qc" / "report.html").read_text())
    assert "mirrored_front_back" in page
    assert "better with front and back exchanged" in page
    assert "moved <much>" in page
    shown = re.findall(r"alt=\"(OAS1_\d+)_MR1: mask", page)
    assert shown == ["OAS1_0007", "OAS1_0001"]  # the flagged one first, though few are shown
    track_quality(Folder(tmp_path / "masked"), tmp_path, shown=2, masked_ids=True)
    everything = b"".join(p.read_bytes() for p in (tmp_path / "masked").rglob("*.*"))
    assert b"OAS1_" not in everything
    assert b"&lt;much" not in everything


def test_masked_ids_appear_nowhere_and_few_are_shown(prepared, tmp_path):
    kept = Folder(tmp_path)
    track_quality(kept, prepared, shown=3, masked_ids=True, view="radiological")
    assert not [p for p in tmp_path.rglob("*.*") if b"OAS1_" in p.read_bytes()]
    with (tmp_path / "qc" / "qc_table.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["#1", "#2", "#3"]
    assert "qc/manifest.csv" not in kept.names()


@pytest.mark.parametrize(("mm", "shown"), [(1.0, 2.0), (4.0, 4.0)])
def test_the_viewer_shows_voxels_of_2_mm_or_the_volumes_own(monkeypatch, mm, shown):
    seen = []
    monkeypatch.setattr("geovae.figures.mri.viewer_html", lambda data, affine, title: seen.append((data, affine)) or "")
    data = np.random.default_rng(0).random((8, 10, 6), np.float32)
    viewer_page(Volume(data, np.diag([mm, mm, mm, 1.0])), "a")
    size = round(shown / mm)
    means = data.reshape(8 // size, size, 10 // size, size, 6 // size, size).mean((1, 3, 5))
    np.testing.assert_allclose(seen[0][0], means, rtol=1e-5)
    np.testing.assert_allclose(np.diag(seen[0][1])[:3], shown)
