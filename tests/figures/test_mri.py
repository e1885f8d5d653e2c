"""Figures of volumes: small enough, the right way round, and right in their numbers."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from geovae.figures import mri, mri_samples
from geovae.figures.directions import directions_of_slices
from tests.mri.originals import head

AXIAL = directions_of_slices("axial", "radiological", [2.5])
T88 = np.array([[4.0, 0, 0, -86.5], [0, 4, 0, -121.5], [0, 0, 4, -73.5], [0, 0, 0, 1]])


def png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    assert len(file.getvalue()) < 1_000_000
    return np.asarray(Image.open(file).convert("RGB"))


def brains(n=6):
    """Noisy pictures (n, 208, 176) of the worst kind for PNG."""
    base = np.kron(head()[:, :, 11].T / 2300, np.ones((9, 9)))[:208, :176]
    return (np.random.default_rng(0).random((n, 208, 176)) * 0.2 + 0.8) * np.pad(base, ((0, 208 - len(base)), (0, 0)))


def says_the_sides(figure, pictures):
    """Whether L and R are on the number of pictures, with the sentence above them."""
    letters = ["".join(text.get_text() for text in ax.texts) for ax in figure.axes]
    return letters.count("RLAP") == pictures and figure.get_suptitle() == AXIAL.caption


def test_the_mosaic_is_small_and_names_each_picture():
    pictures = brains(60)
    ids = [f"OAS1_{i:04d}_MR1" for i in range(60)]
    figure = mri.cohort_mosaic(pictures[:48], ids, AXIAL, cdr=[0.5, np.nan] * 30, ages=[70, np.nan] * 30)
    png(figure)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:2] == ["OAS1_0000_MR1\nCDR 0.5, 70 y", "OAS1_0001_MR1\nCDR -, age ?"]
    assert sum(map(bool, titles)) == 48
    assert says_the_sides(figure, pictures=48)
    with pytest.raises(ValueError, match=r"`pictures` must have shape \(n, h, w\)"):
        mri.cohort_mosaic(pictures[0], ids, AXIAL, cdr=[], ages=[])


def test_mean_and_sd_are_those_of_numpy():
    pictures = brains()
    figure = mri.mean_and_sd(pictures, AXIAL)
    png(figure)
    assert says_the_sides(figure, pictures=2)
    shown = [ax.images[0].get_array() for ax in figure.axes if ax.images and ax.get_title()]
    np.testing.assert_allclose(shown[0], pictures.mean(0))
    np.testing.assert_allclose(shown[1], pictures.std(0), atol=1e-6)


@pytest.mark.parametrize(("view", "letters"), [("neurological", "PASI LRSI LRAP"), ("radiological", "APSI RLSI RLAP")])
def test_orthogonal_views_put_the_left_where_the_letter_is(view, letters):
    data = np.zeros((44, 52, 44), np.float32)
    data[5:15, 30:40, 20:24] = 1  # left, in front
    data[35:37, 30:40, 20:24] = 0.4
    planes = {"sagittal": data[22], "coronal": data[:, 26], "axial": data[:, :, 22]}
    figure = mri.orthogonal_views(planes, T88, view=view, title="OAS1_0001_MR1")
    assert ["".join(t.get_text() for t in ax.texts) for ax in figure.axes] == letters.split()
    image = png(figure)
    axial = figure.axes[2]
    box = axial.get_window_extent().transformed(figure.transFigure.inverted())
    h, w = image.shape[:2]
    region = image[int((1 - box.y1) * h) : int((1 - box.y0) * h), int(box.x0 * w) : int(box.x1 * w)]
    white = np.argwhere((region > 250).all(axis=2)).mean(axis=0) / region.shape[:2]
    assert white[0] < 0.5  # the front is at the top
    assert (white[1] < 0.5) == (view == "neurological")
    assert axial.get_title() == "axial, z = 14 mm"
    assert sorted(axial.get_xlim()) == [-88.5, 87.5]
    assert axial.get_aspect() == 1


def test_the_outline_of_a_mask_lies_on_its_edge_in_mm():
    data, mask = np.ones((44, 52, 44), np.float32), np.zeros((44, 52, 44), bool)
    mask[10:30, 20:40, 5:35] = True
    planes, masks = ({"sagittal": v[22], "coronal": v[:, 26], "axial": v[:, :, 22]} for v in (data, mask))
    axial = mri.orthogonal_views(planes, T88, masks=masks).axes[2]
    corners = np.concatenate([path.vertices for path in axial.collections[0].get_paths()])
    # half a voxel (2 mm) beyond the middles of the outermost voxels of the mask
    expected = [(T88 @ [9.5, 19.5, 0, 1])[:2], (T88 @ [29.5, 39.5, 0, 1])[:2]]
    np.testing.assert_allclose([corners.min(axis=0), corners.max(axis=0)], expected)


def test_a_view_that_does_not_exist():
    with pytest.raises(ValueError, match=r"`view` must be one of neurological, radiological, got 'up'"):
        mri.orthogonal_views({}, T88, view="up")


def test_histograms():
    before = np.random.default_rng(0).integers(0, 99, (5, 128))
    edges = np.tile(np.linspace(0, 3000, 129), (5, 1))
    figure = mri.histograms(before, edges, before)
    png(figure)
    assert len(figure.axes[1].lines) == 6


def test_the_viewer_is_one_page_below_a_megabyte():
    rng = np.random.default_rng(0)
    data = np.kron(head((22, 26, 22)) / 2300, np.ones((4, 4, 4))) * (1 + 0.1 * rng.random((88, 104, 88)))
    page = mri.viewer_html(data.astype(np.float32), T88 @ np.diag([0.5, 0.5, 0.5, 1]), title="OAS1_0001_MR1")
    assert page.lstrip().startswith("<!DOCTYPE html>")
    assert "OAS1_0001_MR1" in page
    assert len(page) < 1_000_000
    assert 'src="http' not in page
    assert page.count("<p>mm; neurological: the patient's left (L) is on the left</p>") == 1


def test_generated_brains_stand_above_their_nearest_and_the_difference():
    real = brains(2)
    generated = np.clip(real + [[[0.02]], [[-0.04]]], 0, 1)
    figure = mri_samples.real_versus_generated(generated, real, ["s7", "s3"], AXIAL)
    png(figure)
    assert says_the_sides(figure, pictures=6)
    assert [ax.get_title() for ax in figure.axes[2:4]] == ["s7", "s3"]
    exact = np.sqrt(((generated - real) ** 2).mean(axis=(1, 2)))
    assert [ax.get_title() for ax in figure.axes[4:6]] == [f"rms {value:.3f}" for value in exact]
    with pytest.raises(ValueError, match=r"pictures must be \(m, h, w\), alike and not empty: \(2, 208, 176\)"):
        mri_samples.real_versus_generated(generated, real[:, 1:], ["s7", "s3"], AXIAL)


def test_the_gif_runs_there_and_back():
    a, b = brains(2)
    frames = np.stack([a * (1 - t) + b * t for t in np.linspace(0, 1, 12)])
    data = mri_samples.interpolation_gif(frames, AXIAL)
    assert data[:6] == b"GIF89a"
    assert len(data) < 1_000_000
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 22
        assert image.info["loop"] == 0
        assert image.size == (176, 208 + 3 * 14)  # the sentence, in three lines, stands below the picture
        first = np.asarray(image.convert("L"))
    plain = np.rint(frames[0] * 63) * (255 / 63)
    changed = np.argwhere(np.abs(first[:208] - plain) > 3)  # by letters alone
    assert {(int(3 * y / 208), int(3 * x / 176)) for y, x in changed} == {(0, 1), (1, 0), (1, 2), (2, 1)}
    assert (first[208:] > 200).any()
    with pytest.raises(ValueError, match=r"`frames` must have shape \(t, h, w\) with t at least 2"):
        mri_samples.interpolation_gif(frames[:1], AXIAL)


def test_a_geodesic_stands_above_the_straight_line():
    curve, line = brains(4), brains(4)[::-1]
    figure = mri_samples.geodesic_strip(curve, line, AXIAL)
    png(figure)
    assert says_the_sides(figure, pictures=8)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), curve[0], atol=1e-6)
    np.testing.assert_allclose(figure.axes[4].images[0].get_array(), line[0], atol=1e-6)


def test_the_latent_map_colours_by_age_and_cdr():
    mu = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 5)))
    cdr = [np.nan, 0, 0.5] * 10
    figure = mri_samples.latent_map_of_cohort(mu, ages=[np.nan, *range(29)], cdr=cdr)
    png(figure)
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["no CDR", "CDR 0", "CDR 0.5"]
    png(mri_samples.latent_map_of_cohort(mu[:, :1], ages=range(30), cdr=cdr))
    with pytest.raises(ValueError, match=r"must be equally many: \(30, 5\), 29, 30"):
        mri_samples.latent_map_of_cohort(mu, ages=range(29), cdr=cdr)


def test_an_age_that_is_a_bound_is_shown_as_one():
    ages, bounds = [89, 71, np.nan], [True, False, False]
    figure = mri.cohort_mosaic(np.zeros((3, 4, 4)), list("abc"), AXIAL, cdr=[0.0] * 3, ages=ages, at_least=bounds)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["a\nCDR 0, 89+ y", "b\nCDR 0, 71 y", "c\nCDR 0, age ?"]
