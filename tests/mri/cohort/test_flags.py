"""Flags stand at the sessions that were spoilt, and hardly at others."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from geovae.mri import Session, process
from geovae.mri.cohort.flags import LIMIT, MEANINGS, SIDES, flag_rows, joint_limit, modified_z
from geovae.mri.cohort.process import Steps
from tests.mri.originals import head

NAMES = list(SIDES)


def rows_of(values):
    """Rows of a table of quality control from numbers (n, 5)."""
    return [
        dict(zip(NAMES, map(float, row), strict=True)) | {"correlation_front_back": 0.1, "correlation_up_down": 0.1}
        for row in values
    ]


def normal(n, seed=0):
    random = np.random.default_rng(seed)
    return random.normal([1500, 0.6, 0.7, 0.5, 0.8], [100, 0.03, 0.02, 0.05, 0.02], (n, 5))


def test_the_modified_z_score_is_that_of_iglewicz_and_hoaglin():
    values = np.array([2.1, 2.6, 2.4, 2.5, 2.3, 2.1, 2.3, 2.6, 8.2, 8.3])  # median 2.45, median deviation 0.15
    assert modified_z(values)[-1] == pytest.approx(0.6745 * (8.3 - 2.45) / 0.15)
    assert not modified_z(values[:9]).any()  # too few
    assert not modified_z(np.r_[np.ones(20), 5]).any()  # most do not differ: there is no scale


@pytest.mark.parametrize(
    ("column", "value", "flag"),
    [
        ("brain_ml", 880, "small_mask"),
        ("brain_ml", 2120, "large_mask"),
        ("sharpness", 0.3, "blurred"),
        ("sharpness", 0.9, "noisy"),
        ("contrast", 0.5, "low_contrast"),
        ("symmetry", 0.0, "asymmetric"),
        ("correlation_mean", 0.3, "unlike_the_others"),
    ],
)
def test_a_number_far_from_the_others_is_flagged(column, value, flag):
    values = normal(60)
    values[7, NAMES.index(column)] = value
    flagged = flag_rows(rows_of(values))
    assert flagged[7]["flags"] == flag
    assert flag in MEANINGS
    assert sum(bool(row["flags"]) for row in flagged) <= 2


def test_numbers_that_are_odd_only_together_are_an_outlier():
    random = np.random.default_rng(0)
    values = normal(200)
    values[:, 1] = 0.6 + (values[:, 0] - 1500) * 3e-4 + random.normal(0, 0.003, 200)  # sharper where larger
    values[5, :2] = 1500 + 250, 0.6 - 0.075  # each 2.5 deviations away, in opposite directions
    flagged = flag_rows(rows_of(values))
    assert flagged[5]["flags"] == "outlier"
    assert flagged[5]["robust_distance"] > joint_limit(200)
    assert max(abs(modified_z(values[:, 0])[5]), abs(modified_z(values[:, 1])[5])) < LIMIT


def test_normal_cohorts_have_few_flags_and_small_ones_none():
    counts = [sum(bool(row["flags"]) for row in flag_rows(rows_of(normal(100, seed)))) for seed in range(40)]
    assert np.mean(counts) < 1
    small = normal(9)
    small[3] = 2190, 0, 0, 0, 0.2
    assert {row["flags"] for row in flag_rows(rows_of(small))} == {""}
    assert {row["robust_distance"] for row in flag_rows(rows_of(small))} == {""}


def test_a_blurred_and_a_noisy_volume_are_flagged_by_their_voxels(tmp_path):
    steps, random, rows = Steps(spacing=None, shape=None, mask="nonzero"), np.random.default_rng(1), []
    for i in range(12):
        data = head((40, 48, 44), seed=i) + np.where(head((40, 48, 44)) > 0, random.normal(0, 20 + i, (40, 48, 44)), 0)
        if i == 3:
            data = np.where(data != 0, ndimage.gaussian_filter(data, 2), 0)
        if i == 8:
            data = np.where(data != 0, data + random.normal(0, 300, data.shape), 0)
        path = tmp_path / f"{i}.nii"
        nib.save(nib.Nifti1Image(data.astype(np.int16), np.diag([2.0, 2, 2, 1])), path)
        numbers = process(Session(str(i), str(i), 1, path, "flat"), steps).numbers
        rows.append({**numbers, "correlation_mean": 0.9, "correlation_front_back": 0.1, "correlation_up_down": 0.1})
    flags = [row["flags"] for row in flag_rows(rows)]
    assert "blurred" in flags[3]
    assert "noisy" in flags[8]
    assert not [f for i, f in enumerate(flags) if i not in (3, 8) and ("blurred" in f or "noisy" in f)]


def test_a_mask_that_is_no_human_brains_is_flagged_in_cohorts_of_any_size():
    small = normal(3)
    small[:, 0] = 1500, 3900, 300  # ml
    assert [row["flags"] for row in flag_rows(rows_of(small))] == ["", "implausible_mask", "implausible_mask"]
