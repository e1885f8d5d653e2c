"""The synthetic cohort: files byte for byte as OASIS-1 has them, and a factor that is really in the images."""

import struct
from collections import Counter

import nibabel as nib
import numpy as np
import pytest

from geovae.mri import read_volume, write_cohort
from geovae.mri.steps.orient import canonical
from geovae.mri.synthetic.anatomy import COARSE, GRID, Anatomy, coarse_points, draw_anatomy, exponential, template
from geovae.mri.synthetic.cohort import plan
from geovae.mri.synthetic.scanner import scan
from geovae.mri.volume import to_mm


def test_one_full_size_session_is_byte_faithful(tmp_path):
    (truth,) = write_cohort(tmp_path, subjects=1, repeats=0, products=("t88_masked", "fseg"))
    path = tmp_path / "disc1/OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.img"
    assert path.stat().st_size == 12_886_016
    header = path.with_suffix(".hdr").read_bytes()
    assert len(header) == 348
    assert struct.unpack_from(">i", header) == (348,)
    assert struct.unpack_from(">8h", header, 40) == (4, 176, 208, 176, 1, 0, 0, 0)
    assert struct.unpack_from(">2h", header, 70) == (4, 16)
    assert struct.unpack_from(">4f", header, 76)[1:] == (1, 1, 1)
    assert header[253:263] == b" " * 10
    image = nib.AnalyzeImage.from_filename(path)
    assert image.shape == (176, 208, 176, 1)
    assert image.get_data_dtype() == ">i2"
    assert 2700 < np.asarray(image.dataobj).max() < 4000
    volume = canonical(read_volume(path, affine="table", product="t88_masked"))
    segmented = next(tmp_path.glob("disc1/*/FSL_SEG/*_t88_masked_gfc_fseg.img"))
    labels = canonical(read_volume(segmented, affine="table", product="fseg"))
    assert set(np.unique(labels.data)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(labels.data > 0, volume.data > 0)
    fluid, grey, white = (volume.data[labels.data == k].mean() for k in (1, 2, 3))
    assert fluid < grey < white
    dark = volume.data[labels.data == 1]
    assert len(dark) / 1000 > truth.ventricle_ml
    assert "SYNTHETIC" in (tmp_path / "SYNTHETIC.txt").read_text()


def test_the_table_and_the_names(cohort):
    folder, truths = cohort
    lines = (folder / "oasis_cross-sectional.csv").read_text().splitlines()
    assert lines[0] == "ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay"
    assert len(lines) == 10
    assert sum(line.split(",")[7] == "" for line in lines) == sum(np.isnan(t.cdr) for t in truths) > 0
    assert [t.id for t in truths][:2] == ["OAS1_0001_MR1", "OAS1_0001_MR2"]
    assert "OAS1_0008_MR1" not in {t.id for t in truths}  # a hole
    assert {p.name.split("_mpr_")[1][:2] for p in folder.rglob("*.img")} == {"n3", "n4", "n5", "n6"}


def test_the_same_seed_gives_the_same_bytes_also_in_parallel(tmp_path):
    same = {"subjects": 2, "voxel": 8, "seed": 5}
    write_cohort(tmp_path / "a", **same)
    write_cohort(tmp_path / "b", **same, workers=2)
    files = [sorted(p.relative_to(tmp_path / x) for p in (tmp_path / x).rglob("*.*")) for x in "ab"]
    assert files[0] == files[1]
    for name in files[0]:
        if (tmp_path / "a" / name).is_file():
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_two_visits_are_two_scans_of_one_brain(cohort):
    one, two = (read_volume(next(cohort[0].rglob(f"OAS1_0001_MR{k}_mpr*.img"))).data for k in (1, 2))
    np.testing.assert_array_equal(one > 0, two > 0)
    assert not np.array_equal(one, two)


def test_atrophy_grows_with_age_and_cdr():
    truths = plan(400, 0, seed=0)
    assert np.corrcoef([t.age for t in truths], [t.atrophy for t in truths])[0, 1] > 0.6
    mean = {c: np.mean([t.atrophy for t in truths if t.cdr == c]) for c in (0.0, 0.5, 1.0)}
    assert mean[0.0] < mean[0.5] < mean[1.0]
    counts = Counter("blank" if np.isnan(t.cdr) else t.cdr for t in truths)
    assert counts["blank"] == 200
    assert counts[0.0] > counts[0.5] > counts[1.0] > counts[2.0]


def test_atrophy_opens_the_ventricles_of_the_images_and_never_folds():
    found = []
    for atrophy in (0.0, 0.3, 0.6, 1.0):
        anatomy = draw_anatomy(np.random.default_rng(3), atrophy)
        rows = np.array([np.gradient(u, COARSE) for u in anatomy.displacement])
        jacobian = np.moveaxis(rows, (0, 1), (-2, -1)) + np.eye(3)
        assert np.linalg.det(jacobian).min() > 0
        values = scan(anatomy, np.random.default_rng(4), voxel=4)[::-1]
        middle = values[14:30, 20:38, 18:28]
        dark = (middle > 0) & (middle < 0.55 * np.median(values[values > 0]))
        found.append((anatomy.ventricle_ml(), dark.sum()))
    ventricles, dark = np.array(found).T
    assert (np.diff(ventricles) > 2).all()
    assert (np.diff(dark) > 0).all()


def test_no_deformation_gives_the_template_back():
    still = Anatomy(np.zeros((3, *GRID)), 1.0, 0.0)
    known = template()
    index = np.random.default_rng(0).integers(30, 150, (3, 500))
    points = to_mm(known.affine, index.T).T
    np.testing.assert_allclose(still.sample(known.t1, points), known.t1[tuple(index)], atol=1e-3)


def test_the_exponential_of_a_constant_velocity_is_a_shift():
    velocity = np.zeros((3, *GRID))
    velocity[1] = 2.5
    np.testing.assert_allclose(exponential(velocity), velocity, atol=1e-9)


def test_the_exponential_of_minus_v_is_the_inverse():
    generator = np.random.default_rng(1)
    from scipy.ndimage import gaussian_filter, map_coordinates

    v = np.stack([gaussian_filter(generator.standard_normal(GRID), 5) for _ in range(3)])
    v *= 2 / v.std()
    there, back = exponential(v), exponential(-v)
    points = coarse_points(4.0).reshape(3, *GRID)
    index = (points + there - points[:, :1, :1, :1]) / 4
    rest = there + np.stack([map_coordinates(c, index, order=1, mode="nearest") for c in back])
    assert np.abs(rest[:, 8:-8, 8:-8, 8:-8]).max() < 0.15


def test_bad_cohorts_have_their_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"`repeats` from 0 to `subjects`, got 2, 1 and 3"):
        write_cohort(tmp_path, subjects=2, repeats=3)
    with pytest.raises(ValueError, match=r"`products` must be of t88_masked, fseg, subj, raw, got \['t88'\]"):
        write_cohort(tmp_path, products=("t88",))
    with pytest.raises(ValueError, match=r"`voxel` must divide \(176, 208, 176\), got 3"):
        write_cohort(tmp_path, voxel=3)
    assert list(tmp_path.iterdir()) == []
