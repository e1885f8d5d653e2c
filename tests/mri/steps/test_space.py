"""Where voxels lie: all 48 orders of axes, the affines of OASIS-1's products, oblique grids, resampling."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to

from geovae.mri import Session, Steps, Volume, process, read_volume, resample, write_cohort
from geovae.mri.cohort.prepare import _check_same_shapes
from geovae.mri.steps.affines import Stored, choose_affine, table_affine
from geovae.mri.steps.mask import check_same_grid
from geovae.mri.steps.orient import canonical, oblique_warning, obliquity
from geovae.mri.steps.read import check_affine
from geovae.mri.volume import to_mm
from tests.mri.originals import affine_of, head, to_axes

ORDERS = ["".join(axes) for p in permutations(("RL", "AP", "SI")) for axes in product(*p)]
SHAPE = (20, 24, 22)


def test_there_are_48_orders():
    assert len(set(ORDERS)) == 48


@pytest.mark.parametrize("axes", ORDERS)
@pytest.mark.parametrize("view", ["neurological", "radiological"])
def test_a_marker_stays_on_its_side_all_the_way(tmp_path, axes, view):
    """A bright block in the left hemisphere, in front, ends left or right in the picture as the view says."""
    data = head(SHAPE).clip(0, 1000)
    data[4:7, 15:18, 8:14] = 4000  # left: small x; front: large y
    affine = affine_of(axes, SHAPE, first=(-9, -11, -10))
    nib.save(nib.Nifti1Image(to_axes(data, axes), affine), tmp_path / "a.nii.gz")
    session = Session("a", "a", 1, tmp_path / "a.nii.gz", "flat")
    steps = Steps(mask="nonzero", shape=(18, 26, 22), centre="grid", percentiles=(0, 100), view=view)
    done = process(session, steps)
    rows, columns = np.nonzero(done.pictures[0] == 255)
    assert rows.max() < 13  # the front is at the top
    assert (columns.max() < 9) if view == "neurological" else (columns.min() >= 9)
    assert done.slice_mm[0] == pytest.approx(0, abs=1)
    bright = to_mm(done.volume.affine, np.argwhere(done.volume.data == 1)).mean(axis=0)
    np.testing.assert_allclose(bright, to_mm(np.eye(4), [5 - 9, 16 - 11, 10.5 - 10]), atol=1e-6)


@pytest.mark.parametrize("axes", ORDERS)
def test_canonical_agrees_with_nibabel(axes):
    data = to_axes(head(SHAPE), axes).astype(np.float32)
    affine = affine_of(axes, SHAPE, spacing=1.5, first=(3, 2, 1))
    ours = canonical(Volume(data, affine))
    theirs = nib.as_closest_canonical(nib.Nifti1Image(data, affine))
    np.testing.assert_array_equal(ours.data, theirs.get_fdata())
    np.testing.assert_allclose(ours.affine, theirs.affine)
    assert np.shares_memory(ours.data, data)
    assert ours.history[-1]["axes_before"] == axes


def test_the_table_of_affines():
    t88 = [[-1, 0, 0, 87], [0, 1, 0, -123], [0, 0, 1, -75], [0, 0, 0, 1]]
    subj = [[0, 0, -1, 80], [1, 0, 0, -128], [0, 1, 0, -128], [0, 0, 0, 1]]
    np.testing.assert_array_equal(table_affine("t88_masked", (176, 208, 176), (1, 1, 1)), t88)
    np.testing.assert_array_equal(table_affine("subj", (256, 256, 160), (1, 1, 1)), subj)
    assert nib.aff2axcodes(table_affine("raw", (256, 256, 128), (1, 1, 1.25))) == ("A", "S", "L")
    half = table_affine("t88", (88, 104, 88), (2, 2, 2))
    np.testing.assert_allclose(to_mm(half, [-0.5] * 3), to_mm(np.array(t88, float), [-0.5] * 3))


def test_what_the_table_does_not_know_is_refused():
    known = {"shape": (10, 10, 10), "spacing": (1.0, 1.0, 1.0), "stored": Stored(np.eye(4), "sform")}
    with pytest.raises(ValueError, match=r"no affine for `flat` in the table .*pass affine='header'"):
        choose_affine("table", product="flat", **known)
    with pytest.raises(ValueError, match=r"the grid \(10, 10, 10\) of .* is not that of t88"):
        choose_affine("table", product="t88", **known)
    with pytest.raises(ValueError, match=r"`affine` must be one of auto, table, header, identity, got 'best'"):
        choose_affine("best", product="t88", **known)
    assert choose_affine("auto", product="flat", **known)[1] == "sform"


def test_subject_space_and_atlas_space_of_one_brain_agree(tmp_path):
    """SUBJ_111 is stored as ASL, T88_111 as LAS: in mm the two scans of one anatomy coincide."""
    write_cohort(tmp_path, subjects=1, voxel=4, products=("t88_masked", "subj"), repeats=0)
    paths = sorted(tmp_path.rglob("*.img"))
    subj, t88 = (
        canonical(read_volume(p, affine="table", product=name))
        for p, name in zip(sorted(paths, key=lambda p: "t88" in p.name), ("subj", "t88_masked"), strict=True)
    )
    points = to_mm(t88.affine, np.argwhere(t88.data > 0))
    index = np.rint((points - subj.affine[:3, 3]) / 4).astype(int)
    there = subj.data[tuple(index.T)]
    assert np.corrcoef(there, t88.data[t88.data > 0])[0, 1] > 0.7
    assert (there > 0).mean() > 0.95
    flipped = subj.data[::-1, ::-1][tuple(index.T)]
    assert (flipped > 0).mean() < 0.9


def ramp(shape, affine):
    """Values that are linear in mm: linear interpolation gives them back exactly."""
    at = to_mm(affine, np.stack(np.indices(shape), axis=-1))
    return Volume((at @ [1.0, -2.0, 0.5] + 300).astype(np.float32), affine)


def test_resampling_is_exact_for_a_ramp_and_agrees_with_nibabel():
    affine = np.diag([0.8, 1.3, 0.9, 1.0])
    affine[:3, 3] = (-7, 3, 5)
    volume = ramp((20, 18, 24), affine)
    fine = resample(volume, 0.5)
    inner = (slice(4, -4),) * 3
    np.testing.assert_allclose(fine.data[inner], ramp(fine.shape, fine.affine).data[inner], atol=1e-3)
    noise = Volume(np.random.default_rng(0).random((20, 18, 24), np.float32), affine)
    ours = resample(noise, 0.5)
    theirs = resample_from_to(nib.Nifti1Image(noise.data, affine), (ours.shape, ours.affine), order=1)
    np.testing.assert_allclose(ours.data, theirs.get_fdata(), atol=1e-5)


def test_resampling_only_where_it_is_needed_and_never_rings():
    volume = Volume((head() > 0).astype(np.float32) * 1000, np.eye(4))
    assert resample(volume, 1.0) is volume
    coarse = resample(volume, 2.0)
    assert coarse.shape == (10, 12, 11)
    assert coarse.data.min() >= 0
    assert coarse.data.max() <= 1000
    assert coarse.data.sum() * 8 == pytest.approx(volume.data.sum(), rel=0.02)
    with pytest.raises(ValueError, match=r"`spacing` must be positive and finite, got 0"):
        resample(volume, 0)


def test_whole_factors_give_means_of_blocks_in_place():
    random = np.random.default_rng(0)
    data = np.asfortranarray(random.random((12, 8, 6), np.float32))[::-1]
    volume = Volume(data, affine_of("RAS", (12, 8, 6), 1.0, (-5.0, 2.0, 7.0)))
    coarse = resample(volume, 2.0)
    np.testing.assert_allclose(coarse.data, data.reshape(6, 2, 4, 2, 3, 2).mean((1, 3, 5)), rtol=1e-5)
    np.testing.assert_array_equal(coarse.affine[:3, 3], [-4.5, 2.5, 7.5])
    assert coarse.data.flags.c_contiguous
    odd = resample(Volume(data[:11], volume.affine), 2.0)  # a block would be cut
    assert odd.shape == (6, 4, 3)
    sizes = Volume(data, np.diag([1.0, 2.0, 0.5, 1.0]))
    np.testing.assert_allclose(resample(sizes, 2.0).shape, (6, 8, 2))


def rotated(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:2, :2] = [[c, -s], [s, c]]
    return affine


def test_an_oblique_grid_is_warned_of_and_resampled_in_place():
    assert obliquity(rotated(12)) == pytest.approx(12)
    assert oblique_warning(3.0) == []
    assert "oblique by 12.0 degrees" in oblique_warning(12.0)[0]
    volume = ramp((20, 24, 22), rotated(12))
    straight = resample(volume, 1.0)
    assert obliquity(straight.affine) == 0
    filled = straight.data[10:18, 10:18, 4:-4]
    np.testing.assert_allclose(filled, ramp(straight.shape, straight.affine).data[10:18, 10:18, 4:-4], atol=1e-3)


def test_a_real_oblique_file_is_seen_as_oblique():
    from pathlib import Path

    image = nib.load(Path(nib.__file__).parent / "tests" / "data" / "example4d.nii.gz")
    degrees = np.degrees(nib.affines.obliquity(image.affine)).max()
    assert obliquity(image.affine) == pytest.approx(degrees)


def test_bad_affines_and_grids_have_their_sentence():
    flat = np.eye(4)
    flat[:3, 2] = flat[:3, 1]
    assert "the affine is singular" in check_affine(flat)[0]
    assert "the affine is singular" in check_affine(np.diag([1.0, 0, 1, 1]))[0]
    assert "NaN or infinity" in check_affine(np.full((4, 4), np.nan))[0]
    a = Volume(np.zeros((4, 4, 4), np.float32), np.eye(4))
    assert "the mask has shape (4, 4, 5)" in check_same_grid(a, Volume(np.zeros((4, 4, 5), np.float32), np.eye(4)))[0]
    assert "another affine, off by up to 2" in check_same_grid(a, Volume(a.data, np.diag([3.0, 1, 1, 1])))[0]
    mixed = _check_same_shapes({"a": (1, 4, 4), "b": (1, 4, 5), "c": (1, 4, 4)})
    assert "mixed shapes ((1, 4, 4): a, c; (1, 4, 5): b): pass `shape`" in mixed[0].sentence


def test_a_volume_checks_its_parts():
    with pytest.raises(ValueError, match=r"non-empty float32 array \(x, y, z\), got float64"):
        Volume(np.zeros((2, 2, 2)), np.eye(4))
    with pytest.raises(ValueError, match=r"`affine` must have shape \(4, 4\), got \(3, 3\)"):
        Volume(np.zeros((2, 2, 2), np.float32), np.eye(3))
