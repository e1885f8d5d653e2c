"""Grids of brains print sides, mm and convention; grids of anything else are as they were."""

import numpy as np
import pytest
import torch

from experiments.planes import HEIGHT, UNKNOWN, directions_of, directions_of_model, plane_grid
from experiments.run import track_reconstructions
from geovae.figures.directions import Directions
from geovae.images import as_pictures, image_grid
from geovae.models import build_model
from geovae.mri import write_cohort
from tests.mri.originals import prepare_with as prepare


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brains")
    write_cohort(folder / "source", subjects=3, voxel=8, repeats=0)
    prepare(folder / "source", folder, spacing=8.0, shape=(22, 26, 22), arrays="npy", workers=1, progress=False)
    return str(folder)


def test_what_is_printed_is_what_was_prepared(root, tmp_path):
    slices = directions_of({"name": "oasis", "root": root}, (1, 26, 22))
    assert [letter for _, _, letter in slices.letters[:2]] == ["R", "L"]
    assert slices.caption == "axial, z = 8.5 mm; radiological: the patient's left (L) is on the right"
    volumes = directions_of({"name": "oasis_volumes", "root": root}, (22, 26, 22))
    assert volumes.caption.startswith("sagittal x = 4, coronal y = -16, axial z = 16 mm; neurological")
    assert directions_of({"name": "digits"}, (1, 32, 32)) is None
    assert directions_of_model({"data": {"name": "digits"}}) is None
    (tmp_path / "oasis").mkdir()
    np.savez(tmp_path / "oasis" / "OASIS.npz", x_train=np.zeros((1, 2, 2, 1), np.uint8))
    for folder in (tmp_path, tmp_path / "none"):
        assert directions_of({"name": "oasis", "root": str(folder)}, (1, 2, 2)) is UNKNOWN


def test_each_picture_of_a_grid_has_its_letters():
    black = torch.zeros(5, 1, 60, 40, dtype=torch.uint8)
    grid = plane_grid(black, Directions([(0.04, 0.5, "L"), (0.5, 0.96, "A")], "axial"), columns=3)
    h, w = 120, 80  # each pixel is repeated, so that letters have room
    assert grid.shape == (2 * (h + 1) + 1 + 14, 3 * (w + 1) + 1)
    assert grid[2 * (h + 1) + 1 :].any()  # the caption
    for row, column in ((0, 0), (0, 2), (1, 1)):
        tile = grid[1 + row * (h + 1) :, 1 + column * (w + 1) :][:h, :w]
        lit = np.argwhere(tile > 100)
        left, top = lit[lit[:, 0] > 20], lit[lit[:, 0] <= 20]
        assert abs(left[:, 0].mean() - h / 2) < 5
        assert left[:, 1].max() < 10
        assert abs(top[:, 1].mean() - w / 2) < 4
        assert len(lit) == len(left) + len(top)
    np.testing.assert_array_equal(plane_grid(black, None), image_grid(black, scale=None))


@pytest.mark.parametrize(("name", "shape", "n"), [("oasis", (1, 26, 22), 8), ("oasis_volumes", (22, 26, 22), 2)])
def test_reconstructions_of_brains_are_marked_and_no_strip(root, name, shape, n):
    kept = []

    class Kept:
        def image(self, name, picture, step):
            kept.append(picture)

    images = torch.zeros(8, *shape, dtype=torch.uint8)
    model = build_model("vae", shape, network="mlp", width=8, latent_dim=2)
    for directions in (None, directions_of({"name": name, "root": root}, shape)):
        track_reconstructions(Kept(), model, images, 1, directions)
    h, w = as_pictures(images).shape[2:]
    factor = round(HEIGHT / h)
    assert kept[0].shape[1] == n * (round(64 / h) * w + 1) + 1
    assert kept[1].shape[1] == n * (factor * w + 1) + 1
    assert kept[1].shape[0] > 2 * (factor * h + 1) + 1
    assert (kept[1][1 : 1 + factor * h, 1 : 1 + factor * w] > 100).any()  # letters on the images, which are black
