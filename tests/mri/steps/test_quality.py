"""Sharpness, contrast and symmetry have the values of their closed forms, whatever the unit of the grey."""

import numpy as np
import pytest

from geovae.mri.steps.quality import contrast, quality_numbers, sharpness, symmetry

AXES = ("axial", "coronal", "sagittal")


def everywhere(plane, mask=None):
    """The same plane and mask along each axis."""
    mask = np.ones(plane.shape, bool) if mask is None else mask
    return dict.fromkeys(AXES, plane), dict.fromkeys(AXES, mask)


@pytest.mark.parametrize("period", [4, 8, 16])
def test_the_sharpness_of_a_wave_is_that_of_the_discrete_laplacian(period):
    wave = np.cos(2 * np.pi * (np.arange(8 * period + 2) - 0.5) / period)  # whole periods inside the eroded mask
    plane = np.repeat(wave[:, None], 20, axis=1)
    expected = 2 - 2 * np.cos(2 * np.pi / period)  # of this wave the Laplacian is so many times its negative
    assert sharpness(*everywhere(plane)) == pytest.approx(expected, rel=1e-6)


def test_the_edge_of_the_mask_is_not_sharp():
    mask = np.zeros((40, 40), bool)
    mask[8:32, 8:32] = True
    ramp = np.add.outer(np.arange(40.0), np.arange(40.0))
    assert sharpness(*everywhere(np.where(mask, ramp, 0), mask)) == pytest.approx(0, abs=1e-9)


def test_contrast_is_the_share_that_two_classes_explain():
    random = np.random.default_rng(0)
    two = np.where(random.random((300, 300)) < 0.3, 0.4, 0.9)
    assert contrast(*everywhere(two)) == pytest.approx(1)
    assert contrast(*everywhere(random.random((300, 300)))) == pytest.approx(3 / 4, abs=0.01)
    assert contrast(*everywhere(random.normal(size=(300, 300)))) == pytest.approx(2 / np.pi, abs=0.01)


def test_symmetry_is_one_of_a_mirrored_plane_and_minus_one_of_an_opposite_one():
    half = np.random.default_rng(0).random((15, 20))
    mask = np.zeros((50, 20), bool)
    mask[7:37] = True  # its middle is not that of the grid
    for sign, expected in ((1, 1), (-1, -1)):
        plane = np.zeros((50, 20))
        plane[7:37] = np.concatenate([half - 0.5, sign * (half - 0.5)[::-1]])
        assert symmetry(*everywhere(plane, mask)) == pytest.approx(expected)


def test_no_number_depends_on_the_unit_of_the_grey():
    plane = np.random.default_rng(0).random((30, 30))
    one, other = (quality_numbers(*everywhere(p)) for p in (plane, 700 * plane + 50))
    assert one == pytest.approx(other)
    assert set(one) == {"sharpness", "contrast", "symmetry"}


@pytest.mark.parametrize("mask", [np.zeros((9, 9), bool), np.ones((9, 9), bool)])
def test_a_plane_without_a_grey_is_zero(mask):
    assert set(quality_numbers(*everywhere(np.ones((9, 9)), mask)).values()) == {0.0}
