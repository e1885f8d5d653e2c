"""Folders of images of one's own, and npz files of any size."""

import numpy as np
from PIL import Image

from geovae.data import DATASETS
from tests.data.originals import noise


def write_images(folder, *images, names=None):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / (names[i] if names else f"{i:03d}.png"))


def test_sub_folders_are_classes(tmp_path):
    write_images(tmp_path / "pets/dog", *noise(10, 8, 8, 3))
    write_images(tmp_path / "pets/cat", *noise(10, 8, 8, 3, seed=1))
    splits = DATASETS["folder"](root=str(tmp_path), path="pets", val_fraction=0.2, test_fraction=0.2)
    cats = {x.tobytes() for x in noise(10, 8, 8, 3, seed=1)}
    assert [p.labels.bincount().tolist() for p in splits.parts().values()] == [[6, 6], [2, 2], [2, 2]]
    for image, label in zip(splits.train.images.permute(0, 2, 3, 1).contiguous(), splits.train.labels, strict=True):
        assert (image.numpy().tobytes() in cats) == (label == 0)


def test_size_and_channels_make_images_alike(tmp_path):
    write_images(tmp_path / "mixed", *noise(5, 20, 30, 3), *noise(5, 16, 16))
    names = [f"g{i}.jpg" for i in range(5)]
    write_images(tmp_path / "mixed", *noise(5, 40, 24), names=names)
    splits = DATASETS["folder"](root=str(tmp_path), path="mixed", size=12, channels=1, test_fraction=0.2)
    assert splits.image_shape == (1, 12, 12)
    assert sum(len(p) for p in splits.parts().values()) == 15


def test_a_constant_image_stays_constant_when_it_is_resized(tmp_path):
    write_images(tmp_path / "flat", *[np.full((9, 15, 3), 10 * i, np.uint8) for i in range(10)])
    splits = DATASETS["folder"](root=str(tmp_path), path="flat", size=32)
    assert (splits.train.images.flatten(1) == splits.train.images[:, 0, 0, :1]).all()


def test_an_npz_of_any_size_with_its_test_folder(tmp_path):
    x = noise(20, 10, 14, 3)
    (tmp_path / "own").mkdir()
    np.savez(tmp_path / "own/own.npz", x_train=x)
    write_images(tmp_path / "own/test_folder", *noise(3, 10, 14, 3, seed=1))
    splits = DATASETS["folder"](root=str(tmp_path), path="own/own.npz", val_fraction=0.25)
    assert [len(p) for p in splits.parts().values()] == [15, 5, 3]
    assert splits.train.labels is None
    assert np.array_equal(splits.test.images.permute(0, 2, 3, 1), noise(3, 10, 14, 3, seed=1))
