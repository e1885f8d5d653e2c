"""SVHN, and folders of images."""

import os

import numpy as np
import pytest
from PIL import Image

from geovae.data import DATASETS
from geovae.data.builders import BUILDERS
from tests.data.originals import write_folder, write_svhn

pytestmark = pytest.mark.filterwarnings("ignore:.* is not the published file:UserWarning")


def test_svhn_test_images_and_a_source_in_place(tmp_path, root):
    arrays = write_svhn(root / "svhn")
    before = (root / "svhn/train_32x32.mat").read_bytes()
    BUILDERS["svhn"](root / "svhn", root, progress=False)
    assert (root / "svhn/train_32x32.mat").read_bytes() == before
    splits = DATASETS["svhn"](root=str(root), val_size=10)
    assert np.array_equal(splits.test.images.permute(0, 2, 3, 1), arrays["test"])
    assert BUILDERS["svhn"](root / "svhn", root, progress=False)["complete"]


def test_a_full_numbers_archive_is_not_svhn_format_2(tmp_path, root):
    write_svhn(tmp_path / "source")
    from scipy.io import savemat

    savemat(tmp_path / "source/test_32x32.mat", {"digitStruct": np.zeros(3)})
    with pytest.raises(ValueError, match=r"test_32x32.mat` has no array `X`; it holds: digitStruct"):
        BUILDERS["svhn"](tmp_path / "source", root, progress=False)
    assert not (root / "svhn").exists()


def test_a_folder_with_bad_images(tmp_path, root):
    write_folder(tmp_path / "source")
    (tmp_path / "source/a/03.png").write_bytes(b"<html>")
    Image.new("L", (7, 9)).save(tmp_path / "source/b/04.png")
    with pytest.raises(ValueError, match=r"2 of 40 images .*03.png: cannot.*04.png: is gray.*`size` and `channels`"):
        BUILDERS["folder"](tmp_path / "source", root, progress=False)
    with pytest.warns(UserWarning, match="2 of 40 images"):
        report = BUILDERS["folder"](tmp_path / "source", root, progress=False, on_error="skip", name="pets")
    assert [os.path.basename(path) for path in report["skipped"]] == ["03.png", "04.png"]
    splits = DATASETS["folder"](root=str(root), path="pets/pets.npz")
    assert sum(len(p) for p in splits.parts().values()) == 38
    assert splits.train.labels.unique().tolist() == [0, 1]


def test_a_folder_can_be_resized_into_gray(tmp_path, root):
    write_folder(tmp_path / "source")
    BUILDERS["folder"](tmp_path / "source", root, size=16, channels=1, progress=False)
    splits = DATASETS["folder"](root=str(root), path="folder/folder.npz")
    assert splits.image_shape == (1, 16, 16)
    assert len(splits.test) == round(0.16 * 40)


@pytest.mark.parametrize("name", ["..", "a/b", "", "/tmp/x"])
def test_the_name_of_a_new_data_set_stays_below_the_root(tmp_path, root, name):
    with pytest.raises(ValueError, match="`name` must be the name of a folder below `root`"):
        BUILDERS["folder"](tmp_path, root, name=name, progress=False)
