"""The letters of a figure stand where the patient's sides are, of slices and volumes: found by a mark on one side."""

import numpy as np
import pytest
import torch

from geovae.figures.directions import PLANES, directions_of_slices, directions_of_volumes
from geovae.images import as_pictures
from geovae.mri.steps.slices import to_image

SHAPE = (12, 16, 10)
# RAS: the first voxels along x are the patient's left, along y the back, along z the feet
ENDS = {"L": (0, 0), "R": (0, -1), "P": (1, 0), "A": (1, -1), "I": (2, 0), "S": (2, -1)}


def marked(side):
    """A volume that is 1 in the outermost voxels of one of the patient's sides."""
    volume = np.zeros(SHAPE, np.float32)
    axis, end = ENDS[side]
    np.moveaxis(volume, axis, 0)[end] = 1
    return volume


def value_at(picture, x, y):
    """The picture's value at the outermost pixel nearest to a place in shares from the lower left corner."""
    h, w = picture.shape
    row, column = (1 - y) * h, x * w
    return picture[min(int(row), h - 1), min(int(column), w - 1)]


def edge(v):
    """Move a place beside an edge onto it."""
    return 0.0 if v < 0.1 else 0.9999 if v > 0.9 else v


@pytest.mark.parametrize("view", ["neurological", "radiological"])
@pytest.mark.parametrize("axis", PLANES)
def test_a_letter_of_a_slice_stands_on_the_side_that_it_names(axis, view):
    found = directions_of_slices(axis, view, [1.5, 1.5])
    across, up = PLANES[axis]
    assert {letter for _, _, letter in found.letters} == {s for s, (a, _) in ENDS.items() if a in (across, up)}
    for x, y, letter in found.letters:
        plane = np.take(marked(letter), 5, 3 - across - up)
        assert value_at(to_image(plane, axis, view), edge(x), edge(y)) == 1, letter


def test_a_letter_of_a_volume_stands_on_the_side_that_it_names():
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -11, -15, -9
    found = directions_of_volumes(SHAPE, affine)
    assert [letter for _, _, letter in found.letters] == list("PASILRSILRAP")
    assert found.caption.startswith("sagittal x = 1, coronal y = 1, axial z = 1 mm; neurological")
    widths = [SHAPE[across] for across, _ in PLANES.values()]
    lefts = np.cumsum([0, *widths])
    for i, (x, y, letter) in enumerate(found.letters):
        picture = as_pictures(torch.from_numpy(marked(letter))[None])[0, 0].numpy()
        column, row = x * picture.shape[1], (1 - y) * picture.shape[0]
        panel = picture[:, lefts[i // 4] : lefts[i // 4 + 1]]
        rows, columns = np.nonzero(panel == 1)
        assert abs(row - rows.mean() - 0.5) < 1.0, letter
        assert abs(column - lefts[i // 4] - columns.mean() - 0.5) < 1.0, letter


@pytest.mark.parametrize(
    ("axis", "view", "mm", "said"),
    [
        ("axial", "radiological", [2.5], "axial, z = 2.5 mm; radiological: the patient's left (L) is on the right"),
        (
            "coronal",
            "neurological",
            [-3, 4],
            "coronal, y = -3 to 4 mm; neurological: the patient's left (L) is on the left",
        ),
        ("sagittal", "radiological", [0], "sagittal, x = 0 mm; radiological: the front (A) is on the left"),
    ],
)
def test_the_caption_has_mm_and_the_convention(axis, view, mm, said):
    assert directions_of_slices(axis, view, mm).caption == said


def test_what_does_not_exist():
    with pytest.raises(ValueError, match=r"`view` must be one of neurological, radiological, got 'up'"):
        directions_of_slices("axial", "up", [0])
    with pytest.raises(ValueError, match=r"`axis` must be one of sagittal, coronal, axial, got 'top'"):
        directions_of_slices("top", "neurological", [0])
