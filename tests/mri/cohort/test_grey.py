"""Grey values have no unit and no zero; background may be NaN, or not the lowest value; masks say what they assume."""

from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from geovae.mri import Session, Steps, process
from geovae.mri.steps.mask import border_value, check_millilitres, is_surrounded
from tests.mri.originals import head
from tests.mri.steps.test_read import REAL

AFFINE = np.diag([8.0, 8, 8, 1])
INSIDE = head((20, 24, 22)) > 0
PLAIN = Steps(spacing=5.0, shape=None, percentiles=(0, 100))


def done(folder, data, steps=PLAIN, mask=None):
    nib.save(nib.Nifti1Image(np.asarray(data, np.float32), AFFINE), folder / "a.nii")
    if mask is not None:
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), AFFINE), folder / "m.nii")
    session = Session("a", "a", 1, folder / "a.nii", "flat", mask=None if mask is None else folder / "m.nii")
    return process(session, steps)


def brain(centre=0.0):
    """A skull-stripped brain with values about `centre`, on both sides of it."""
    values = np.random.default_rng(1).normal(size=INSIDE.shape) + 0.01
    return np.where(INSIDE, values + centre, 0)


@pytest.mark.parametrize(("scale", "shift"), [(1000, 0), (1 / 700, -1), (1, -1024), (3, 5000), (1e-6, -2e-3)])
def test_a_linear_change_of_the_grey_changes_no_picture(tmp_path, scale, shift):
    plain, changed = done(tmp_path, head()), done(tmp_path, scale * head().astype(float) + shift, PLAIN)
    assert plain.numbers["mask_rule"] == changed.numbers["mask_rule"] == "otsu"
    assert changed.numbers["brain_ml"] == pytest.approx(plain.numbers["brain_ml"], rel=0.002)
    difference = np.abs(plain.pictures.astype(int) - changed.pictures)
    assert np.quantile(difference, 0.999) <= 1  # a voxel at the threshold may round to the other side


def test_a_brain_around_zero_is_found_by_what_surrounds_it(tmp_path):
    steps = Steps(spacing=None, shape=None, percentiles=(0, 100))
    found = done(tmp_path, brain(), steps)
    assert found.numbers["mask_rule"] == "background"
    assert found.numbers["brain_ml"] == pytest.approx(INSIDE.sum() * 0.512)
    assert not found.volume.data[~INSIDE].any()  # black, not the middle grey that 0 is inside
    low, high = brain()[INSIDE].min(), brain()[INSIDE].max()
    np.testing.assert_allclose(found.volume.data[INSIDE], (brain()[INSIDE] - low) / (high - low), atol=1e-6)


@pytest.mark.parametrize("centre", [0.0, 900.0])
def test_background_of_nan_is_an_option_that_the_error_names(tmp_path, centre):
    data = np.where(INSIDE, brain(centre), np.nan)
    with pytest.raises(ValueError, match="NaN stands for the background, .* pass nan_background=true"):
        done(tmp_path, data)
    steps = Steps(spacing=None, shape=None, percentiles=(0, 100), nan_background=True)
    found = done(tmp_path, data, steps)
    assert found.numbers["mask_rule"] == "background"
    assert found.numbers["brain_ml"] == pytest.approx(INSIDE.sum() * 0.512)
    np.testing.assert_array_equal(found.volume.data > 0, INSIDE & (data > np.nanmin(data)))
    assert {"step": "fill nan", "voxels": int((~INSIDE).sum())}.items() <= found.volume.history[1].items()
    data[10, 12, 11] = np.inf
    with pytest.raises(ValueError, match="voxels are NaN or infinite: leave the volume out|from -?.* to inf"):
        done(tmp_path, data, steps)


def test_a_real_volume_with_nan_around_it(tmp_path):
    path = Path(REAL / "resampled_anat_moved.nii")
    finite = np.isfinite(nib.load(path).get_fdata())
    steps = Steps(spacing=None, shape=None, nan_background=True)
    numbers = process(Session("a", "a", 1, path, "flat"), steps).numbers
    size = abs(np.linalg.det(nib.load(path).affine[:3, :3])) / 1000
    assert numbers["mask_rule"] == "background"
    assert numbers["brain_ml"] == pytest.approx(finite.sum() * size, rel=0.05)  # less the voxels equal to the border


def test_a_real_brain_looks_the_same_however_its_background_is_written(tmp_path):
    path = Path(find_spec("nilearn").origin).parent / "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    image = nib.load(path)
    data, affine = image.get_fdata(dtype=np.float32)[::2, ::2, ::2], image.affine @ np.diag([2, 2, 2, 1])
    inside = data > 0
    scores = (data - data[inside].mean()) / data[inside].std()  # of SPM's kind, with values on both sides of 0
    done = []
    for outside, values in ((0, data), (np.nan, data), (np.nan, scores), (0, scores)):
        nib.save(nib.Nifti1Image(np.where(inside, values, np.float32(outside)), affine), tmp_path / "a.nii")
        steps = Steps(spacing=2.0, shape=None, mask="background", nan_background=True)
        done.append(process(Session("a", "a", 1, tmp_path / "a.nii", "flat"), steps))
    for other in done:
        assert other.numbers["brain_ml"] == pytest.approx(inside.sum() * 0.008, abs=0.001)
        assert not check_millilitres(other.numbers["brain_ml"])
        stripped = np.where(inside, other.volume.data, 0)
        np.testing.assert_allclose(stripped, np.where(inside, done[0].volume.data, 0), atol=1e-4)
        np.testing.assert_array_equal(other.volume.data, stripped)


def test_a_mask_file_on_resampled_voxels_keeps_its_volume(tmp_path):
    found = done(tmp_path, head((20, 24, 22)) + 50, mask=INSIDE)
    assert found.numbers["mask_rule"] == "file"
    assert found.numbers["brain_ml"] == pytest.approx(INSIDE.sum() * 0.512, rel=0.01)
    stripped = done(tmp_path, head((20, 24, 22)) - 5000, Steps(spacing=None, shape=None, stripped=True), mask=INSIDE)
    assert not stripped.volume.data[~INSIDE].any()


def test_values_at_the_border():
    assert border_value(head()) == 0
    assert not is_surrounded(head())
    assert is_surrounded(brain())
    assert not is_surrounded(brain() + np.random.default_rng(0).normal(size=INSIDE.shape))


def test_a_bright_background_is_named(tmp_path):
    found = done(tmp_path, 4000 - head() + np.random.default_rng(0).integers(0, 9, head().shape))
    assert any("brighter than Otsu's threshold" in remark for remark in found.numbers["warnings"])


@pytest.mark.parametrize(("millilitres", "fits"), [(1514, True), (1880, True), (3900, False), (12, False)])
def test_the_volume_of_a_brain_is_plausible(millilitres, fits):
    assert (check_millilitres(millilitres) == []) == fits


def test_a_head_with_its_skull_is_not_the_volume_of_a_brain(tmp_path):
    nib.save(nib.Nifti1Image(head(), np.diag([10.0, 10, 10, 1])), tmp_path / "a.nii")
    numbers = process(Session("a", "a", 1, tmp_path / "a.nii", "flat"), Steps(spacing=None, shape=None)).numbers
    assert numbers["brain_ml"] == INSIDE.sum()
    assert [w for w in numbers["warnings"] if f"the brain mask holds {INSIDE.sum():,} ml, a human brain 800 to" in w]
