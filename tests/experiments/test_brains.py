"""What a model of brains generates, in place: NIfTI in mm, rows and ids kept, a geodesic that ends where it should."""

import json
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from experiments.brains import geodesic, nearest_rows, read_cohort, rows_of, show_brains, young_and_old
from experiments.config import resolve
from experiments.run import plan_run, run
from geovae.codes import Codes
from geovae.data import DATASETS
from geovae.geometry import LatentMetric, curve_lengths, straight
from geovae.images import as_pictures
from geovae.mri import Steps, discover, process, write_cohort
from geovae.saved_model import load_model
from tests.experiments.test_quality import MEGABYTE, Folder
from tests.mri.originals import prepare_with as prepare

SAMPLER = {"riemannian": {"centroids": "all", "n_transitions": 5}, "mixture": {"n_components": 2}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A root with ten subjects: slices at the full 208 x 176 (of 8 mm voxels, padded), volumes of 22 x 26 x 22."""
    root = tmp_path_factory.mktemp("brains")
    write_cohort(root / "source", subjects=10, voxel=8)
    options = {"spacing": 8.0, "shape": (176, 208, 22), "workers": 1, "progress": False}
    prepare(root / "source", root, **options, arrays="none")
    prepare(root / "source", root / "small", **{**options, "shape": (22, 26, 22)}, arrays="npy")
    return root


def train(name, root, output, network, width):
    more = {"split": "disjoint"} if name == "oasis" else {}  # volumes are always split so
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scores of few images
        options = {
            "data": {"name": name, "root": str(root), "val_fraction": 0.4} | more,
            "model": {"name": "vae", "network": network, "width": width, "latent_dim": 2},
            "training": {"epochs": 1, "batch_size": 4},
            "sampler": SAMPLER,
            "n_samples": 4,
            "extractor": "pixels",
            "scores": ["frechet"],
        }
        result = run(plan_run(resolve(options)), output=output)
    return load_model(result.model_file)


@pytest.mark.slow
def test_slices_are_shown_and_written_in_place(prepared, tmp_path):
    saved = train("oasis", prepared, tmp_path / "run", "conv_oasis", 1)
    cohort = read_cohort(saved.meta["data"])
    assert saved.meta["directions"]["caption"] == cohort.directions.caption
    kept = Folder(tmp_path / "kept")
    (tmp_path / "out").mkdir()
    files = show_brains(saved, cohort, tmp_path / "out", kept, n=3, sampler="riemannian")
    assert len(files) == 3
    image = nib.load(files[0])
    assert image.shape == (176, 208, 1)
    assert any(np.array_equal(image.affine, affine) for affine in cohort.affines)
    assert image.header["sform_code"] == 3  # Talairach: an OASIS-1 tree in T88
    names = ["geodesic.gif", "latent_age_cdr.png", "mean_and_sd_generated.png", "mean_and_sd_real.png"]
    names += ["real_versus_generated.png", "nifti/dataset_description.json"]
    names += [f"nifti/sub-drawn{i:04d}_space-Talairach_desc-generated_T1w.nii.gz" for i in range(3)]
    assert kept.names() == sorted([*(f"brains/{name}" for name in names), "brains/geodesic_above_straight_line.png"])
    assert max(p.stat().st_size for p in (tmp_path / "kept").rglob("*.*")) < MEGABYTE
    with Image.open(tmp_path / "out" / "geodesic.gif") as gif:
        assert gif.size == (176, 208 + 3 * 14)  # three lines of text below the picture
    sidecar = json.loads(files[0].with_name(files[0].name.replace("nii.gz", "json")).read_text())
    about = {"Sampler": "riemannian", "Seed": 0, "Model": "vae", "SkullStripped": True}
    assert about.items() <= sidecar.items()
    assert sidecar["Plane"].startswith("axial, z = 8.5 mm; radiological")


@pytest.mark.slow
def test_volumes_are_shown_and_written_in_place(prepared, tmp_path):
    saved = train("oasis_volumes", prepared / "small", tmp_path / "run", "conv3d", 2)
    saved.codes.log_var[0] = -30.0  # so narrow that the metric is in double precision
    cohort = read_cohort(saved.meta["data"])
    assert cohort.images.shape == (10, 22, 26, 22)
    kept = Folder(tmp_path / "kept")
    (tmp_path / "out").mkdir()
    files = show_brains(saved, cohort, tmp_path / "out", kept, n=2, sampler="prior")
    image = nib.load(files[0])
    assert image.shape == (22, 26, 22)
    np.testing.assert_allclose(image.affine, np.diag([8, 8, 8, 1]) + [[0, 0, 0, a] for a in (-84.5, -119.5, -71.5, 0)])
    assert {"brains/orthogonal.png", "brains/viewer.html"} <= set(kept.names())
    assert max(p.stat().st_size for p in (tmp_path / "kept").rglob("*.*")) < MEGABYTE


def test_a_volume_of_the_cohort_is_the_session_it_is_named_after(prepared):
    cohort = read_cohort({"name": "oasis_volumes", "root": str(prepared / "small")})
    session = discover(prepared / "source")[0][4]
    row = cohort.ids.index(session.id)
    expected = process(session, Steps(spacing=8.0, shape=(22, 26, 22))).volume
    back = cohort.volume(cohort.images[row], row)
    np.testing.assert_allclose(back.data, expected.data, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(back.affine, expected.affine)


def test_the_patients_left_of_a_slice_comes_back_left(prepared):
    """The file is radiological: the last columns of a picture are the patient's left, negative x in mm."""
    cohort = read_cohort({"name": "oasis", "root": str(prepared)})
    picture = torch.zeros(1, 208, 176, dtype=torch.uint8)
    picture[0, 10, 170] = 255  # front left
    volume = cohort.volume(picture, 0)
    x, y, _ = (volume.affine @ [*np.argwhere(volume.data > 0.5)[0], 1])[:3]
    assert x < 0 < y


def test_rows_are_found_again(prepared):
    cohort = read_cohort({"name": "oasis", "root": str(prepared)})
    train_part = DATASETS["oasis"](root=str(prepared), val_fraction=0.2, seed=3).train
    rows = rows_of(train_part, cohort.images)
    assert len(set(rows)) == len(train_part) == 8
    assert torch.equal(cohort.images[rows], train_part.images)
    young, old = young_and_old(cohort, rows)
    assert cohort.age[rows][young] == cohort.age[rows].min()
    assert np.nan_to_num(cohort.cdr[rows], nan=-1)[old] == np.nan_to_num(cohort.cdr[rows], nan=-1).max()


def test_the_nearest_brain_is_that_of_the_smallest_difference():
    random = np.random.default_rng(0)
    real = torch.from_numpy(random.integers(0, 256, (9, 1, 6, 4), np.uint8))
    drawn = torch.from_numpy(random.integers(0, 256, (5, 1, 6, 4), np.uint8))
    drawn[3] = real[7]
    difference = drawn[:, None].double() - real.double()
    assert nearest_rows(drawn, real) == difference.square().sum((2, 3, 4)).argmin(1).tolist()
    assert nearest_rows(drawn, real)[3] == 7


def test_a_geodesic_keeps_to_the_codes(generator):
    """On a half circle of codes the way between its ends goes around; the straight line goes through nothing."""
    t = torch.linspace(0, torch.pi, 60)
    mu = torch.stack([t.cos(), t.sin()], 1)
    codes = Codes(mu, torch.full_like(mu, -6.0))
    metric = LatentMetric(mu, (-codes.log_var).exp(), temperature=3.0, floor=1e-3)
    curve = geodesic(metric, mu, 0, 59)
    assert curve.shape == (16, 2)
    assert torch.equal(curve[[0, -1]], mu[[0, -1]])
    line = straight(mu[[0]], mu[[59]], 20)
    assert curve_lengths(metric, curve[None]) <= curve_lengths(metric, line) + 1e-3


def test_volumes_are_seen_by_their_middle_planes_the_right_way_up():
    volumes = torch.zeros(2, 4, 6, 5, dtype=torch.uint8)
    volumes[0, 0, :, 2] = 10  # the patient's left
    volumes[0, :, 5, 2] = 20  # the front
    volumes[0, 2, :, 4] = 30  # the top
    pictures = as_pictures(volumes)
    assert pictures.shape == (2, 1, 6, 6 + 4 + 4)
    sagittal, coronal, axial = pictures[0, 0].split([6, 4, 4], dim=1)
    assert (sagittal[0] == 30).all()  # the top is up
    assert sagittal[2, 5] == 20  # the front is on the right
    assert (coronal[0, 2], coronal[2, 0]) == (30, 10)
    assert (axial[0] == 20).all()  # the front is up
    assert (axial[1:, 0] == 10).all()  # the left is on the left
    gray = torch.zeros(1, 3, 4, 4)
    assert as_pictures(gray) is gray


def test_what_is_no_cohort_has_its_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"models trained on oasis or oasis_volumes, got one of 'digits'"):
        read_cohort({"name": "digits", "root": "x"})
    (tmp_path / "oasis").mkdir()
    np.savez(tmp_path / "oasis" / "OASIS.npz", x_train=np.zeros((1, 2, 2, 1), np.uint8))
    with pytest.raises(ValueError, match=r"has no ids, age, cdr, affines, slice_mm, settings, volumes: .* `mlflow run"):
        read_cohort({"name": "oasis", "root": str(tmp_path)})
