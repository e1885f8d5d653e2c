"""Mask, grey values, crop, slices, quantisation: against closed forms, numpy and scipy."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from geovae.mri import Volume
from geovae.mri.steps.crop import crop_or_pad
from geovae.mri.steps.mask import brain_mask, brain_numbers, centre_of_mass, check_mask, otsu_threshold, strip
from geovae.mri.steps.normalise import normalise, percentile_limits, quantise, unscale
from geovae.mri.steps.read import check_values
from geovae.mri.steps.slices import cut_plane, cut_planes, from_image, to_image
from geovae.mri.volume import to_mm
from tests.mri.originals import head

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a machine that is shared
SHAPE = (20, 24, 22)
T88 = np.array([[1.0, 0, 0, -88], [0, 1, 0, -123], [0, 0, 1, -75], [0, 0, 0, 1]])
sizes = st.tuples(*(st.integers(1, 9),) * 3)


def brain(affine=T88):
    return Volume(head().astype(np.float32), affine)


def test_masks():
    volume = brain()
    mask = brain_mask(volume)
    np.testing.assert_array_equal(mask, head() != 0)
    assert brain_mask(volume, "none").all()
    np.testing.assert_array_equal(brain_mask(volume, "otsu"), mask)
    np.testing.assert_array_equal(brain_mask(volume, "file", Volume(mask.astype(np.float32), T88)), mask)
    np.testing.assert_array_equal(strip(volume, mask[::-1]).data, np.where(mask[::-1], volume.data, 0))
    with pytest.raises(ValueError, match=r"`mask` must be one of nonzero, file, background, otsu, none, got 'auto'"):
        brain_mask(volume, "auto")
    with pytest.raises(ValueError, match=r"the mask rule `file` needs a mask volume"):
        brain_mask(volume, "file")
    with pytest.raises(ValueError, match=r"the mask has shape"):
        brain_mask(volume, "file", Volume(np.ones((2, 2, 2), np.float32), T88))


def test_otsu_separates_two_peaks_in_the_middle():
    values = np.concatenate([np.full(500, 10.0), np.full(300, 90.0)]).reshape(8, 10, 10)
    assert 40 < otsu_threshold(values) < 60


def test_numbers_of_a_mask_agree_with_scipy():
    mask = head() != 0
    mask[:, :8] = False
    np.testing.assert_allclose(centre_of_mass(mask), ndimage.center_of_mass(mask))
    numbers = brain_numbers(Volume(mask.astype(np.float32), np.diag([2.0, 1, 1, 1])), mask)
    assert numbers["brain_ml"] == pytest.approx(mask.sum() * 2 / 1000, abs=1e-3)
    np.testing.assert_allclose(centre_of_mass(np.zeros((3, 5, 7), bool)), [1, 2, 3])


@patient
@given(
    arrays(np.float32, sizes, elements=st.floats(0, 4000, width=32)),
    st.integers(0, 49),
    st.integers(50, 100),
)
def test_limits_are_numpys_percentiles(data, low, high):
    mask = data > 100
    if mask.any() and np.percentile(data[mask], low) < np.percentile(data[mask], high):
        found = percentile_limits(np.asfortranarray(data)[::-1], mask[::-1], (low, high))
        np.testing.assert_allclose(found, np.percentile(data[mask], (low, high)), rtol=1e-6)
        scaled = normalise(Volume(data, np.eye(4)), mask, (low, high)).data
        assert scaled.min() >= 0
        assert scaled.max() <= 1


def test_the_limits_are_those_of_the_volume_and_are_kept():
    volume = brain()
    grey = normalise(volume, brain_mask(volume))
    inside = volume.data[volume.data != 0]
    step = grey.history[-1]
    assert step["low"] == inside.min()
    assert step["high"] == pytest.approx(np.percentile(inside, 99.5))
    kept = (volume.data >= step["low"]) & (volume.data <= step["high"])
    back = unscale(grey.data, step["low"], step["high"])
    np.testing.assert_allclose(back[kept], volume.data[kept], atol=1e-3)


def test_one_bright_blob_changes_little():
    volume = brain()
    spoilt = volume.data.copy()
    spoilt[10, 12, 11] = 30000
    mask = volume.data != 0
    before, after = normalise(volume, mask).data, normalise(Volume(spoilt, T88), mask).data
    assert abs(np.median(before[mask]) - np.median(after[mask])) < 0.01


def test_bad_percentiles_have_their_sentence():
    with pytest.raises(ValueError, match=r"`percentiles` must be 0 <= low < high <= 100, got 5 and 5"):
        percentile_limits(brain().data, None, (5, 5))
    with pytest.raises(ValueError, match=r"the mask is empty"):
        percentile_limits(brain().data, np.zeros(SHAPE, bool))
    with pytest.raises(ValueError, match=r"are both 3: nothing to scale"):
        percentile_limits(np.full((2, 2, 2), 3, np.float32), None)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (np.where(head() > 1700, np.nan, head()), "voxels are NaN or infinite"),
        (np.where(head() > 1700, np.inf, head()), "voxels are NaN or infinite"),
        (np.full(SHAPE, 7.0), "constant: every voxel is 7"),
        (np.where(head() == head().max(), 5.9e26, head()), "damaged, or of another byte order"),
    ],
)
def test_bad_values_have_their_sentence(data, sentence):
    assert sentence in check_values(data.astype(np.float32))[0]
    assert check_values(brain().data) == []


def test_a_small_mask_has_its_sentence():
    mask = np.zeros((10, 10, 10), bool)
    mask[0, 0, :10] = True
    assert "the mask holds 1.00% of the voxels, a brain at least 2%" in check_mask(mask)[0]


@patient
@given(arrays(np.float32, sizes, elements=st.floats(0, 9, width=32)), sizes, st.sampled_from(["grid", "mass"]))
def test_every_voxel_keeps_its_place(data, shape, centre):
    volume = Volume(data, T88)
    new = crop_or_pad(volume, shape, centre=centre)
    assert new.shape == shape
    old_at = {tuple(p): v for p, v in zip(to_mm(T88, np.argwhere(data > 0)), data[data > 0], strict=True)}
    new_at = {
        tuple(p): v for p, v in zip(to_mm(new.affine, np.argwhere(new.data > 0)), new.data[new.data > 0], strict=True)
    }
    assert new_at.items() <= old_at.items()
    assert new.history[-1]["brain_voxels_lost"] == len(old_at) - len(new_at)


@patient
@given(arrays(np.float32, sizes), st.tuples(*(st.integers(0, 4),) * 3))
def test_padding_and_cropping_back_is_exact(data, more):
    volume = Volume(np.nan_to_num(data), T88)
    larger = crop_or_pad(volume, tuple(np.array(data.shape) + 2 * np.array(more)))
    back = crop_or_pad(larger, data.shape)
    np.testing.assert_array_equal(back.data, volume.data)
    np.testing.assert_array_equal(back.affine, T88)


def test_the_centre_of_mass_becomes_the_centre():
    data = np.zeros((30, 30, 30), np.float32)
    data[3:8, 20:25, 12:17] = 1
    cropped = crop_or_pad(Volume(data, T88), (9, 9, 9), centre="mass")
    np.testing.assert_array_equal(centre_of_mass(cropped.data > 0), [4, 4, 4])


def test_bad_windows_have_their_sentence():
    with pytest.raises(ValueError, match=r"`shape` must be three numbers above 0 \(x, y, z\), got \(3, 0, 3\)"):
        crop_or_pad(brain(), (3, 0, 3))
    with pytest.raises(ValueError, match=r"`centre` must be one of grid, mass, got 'middle'"):
        crop_or_pad(brain(), (3, 3, 3), centre="middle")


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_all_planes_make_the_volume_again(axis):
    volume = brain()
    n = volume.shape[{"sagittal": 0, "coronal": 1, "axial": 2}[axis]]
    planes = cut_planes(volume, axis, range(n), "index")
    again = np.stack([plane.data for plane in planes], {"sagittal": 0, "coronal": 1, "axial": 2}[axis])
    np.testing.assert_array_equal(again, volume.data)
    np.testing.assert_array_equal(planes[0].affine, volume.affine)
    for view in ("neurological", "radiological"):
        picture = to_image(planes[7].data, axis, view)
        assert picture.flags.c_contiguous
        np.testing.assert_array_equal(from_image(picture, axis, view), planes[7].data)


def test_positions_of_planes():
    volume = Volume(np.zeros((176, 208, 176), np.float32), T88)
    assert cut_plane(volume).index == 88
    assert cut_plane(volume).mm == 13
    assert cut_plane(volume, "axial", 0, "mm").index == 75
    assert cut_plane(volume, "coronal", -123, "mm").index == 0
    assert cut_plane(volume, "sagittal", 175, "index").mm == 87
    np.testing.assert_array_equal(cut_plane(volume, "axial", 20, "mm").affine[:3, 3], [-88, -123, 20])


@pytest.mark.parametrize(("at", "unit"), [(120, "mm"), (-76, "mm"), (176, "index"), (-1, "index"), (1.1, "fraction")])
def test_a_plane_outside_says_the_valid_range(at, unit):
    volume = Volume(np.zeros((176, 208, 176), np.float32), T88)
    with pytest.raises(
        ValueError, match=r"outside the volume: valid are -75 to 100 mm, index 0 to 175, fraction 0 to 1"
    ):
        cut_plane(volume, "axial", at, unit)


def test_bad_planes_have_their_sentence():
    with pytest.raises(ValueError, match=r"`axis` must be one of axial, coronal, sagittal, got 'top'"):
        cut_plane(brain(), "top")
    with pytest.raises(ValueError, match=r"`unit` must be one of fraction, mm, index, got 'cm'"):
        cut_plane(brain(), "axial", 0, "cm")
    with pytest.raises(ValueError, match=r"an index must be a whole number, got 2.5"):
        cut_plane(brain(), "axial", 2.5, "index")
    with pytest.raises(ValueError, match=r"at least one plane and none twice, got \[0.5, 0.5\]"):
        cut_planes(brain(), "axial", [0.5, 0.5])
    with pytest.raises(ValueError, match=r"`view` must be one of neurological, radiological, got 'upside'"):
        to_image(np.zeros((2, 2)), "axial", "upside")


def test_as_stored_las_and_turned_is_radiological():
    stored = head(SHAPE)[::-1]  # x to the left
    np.testing.assert_array_equal(np.rot90(stored[:, :, 11]), to_image(head(SHAPE)[:, :, 11], "axial", "radiological"))


def test_quantisation():
    picture = np.linspace(0.2, 0.8, 100).reshape(10, 10)
    paper, consistent = quantise(picture), quantise(picture, "volume")
    assert (paper.min(), paper.max(), paper.dtype) == (0, 255, np.uint8)
    np.testing.assert_array_equal(consistent, np.rint(picture * 255))
    with pytest.raises(ValueError, match=r"the slice is empty: every value is 0"):
        quantise(np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"values must lie in \[0, 1\], got 0 to 3"):
        quantise(np.array([[0, 3.0]]))
    with pytest.raises(ValueError, match=r"`quantisation` must be one of image, volume, got 'slice'"):
        quantise(picture, "slice")
