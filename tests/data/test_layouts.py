"""mnist, cifar, oasis and svhn, read exactly: which row becomes which image, label and split; and what is refused."""

import numpy as np
import pytest
import torch

from geovae.data import DATASETS
from geovae.data.oasis import class_numbers
from tests.data.originals import noise


def save(path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


@pytest.mark.parametrize(("name", "file", "c"), [("mnist", "mnist_32x32.npz", 1), ("cifar", "cifar_10.npz", 3)])
def test_npz_layouts_hold_out_the_last_rows(tmp_path, name, file, c):
    x, y = noise(30, 32, 32, c), np.arange(30) % 10
    save(tmp_path / name / file, x_train=x, y_train=y)
    splits = DATASETS[name](root=str(tmp_path), val_size=10)
    assert np.array_equal(splits.train.images.permute(0, 2, 3, 1), x[:20])
    assert np.array_equal(splits.val.images.permute(0, 2, 3, 1), x[20:])
    assert splits.val.labels.tolist() == [*range(10)]
    assert splits.test is None


def test_a_file_with_fewer_rows_than_are_held_out(tmp_path):
    save(tmp_path / "mnist/mnist_32x32.npz", x_train=noise(30, 32, 32, 1), y_train=np.arange(30) % 10)
    with pytest.raises(ValueError, match="`val_size` must be between 1 and 29 for 30 images, got 10000"):
        DATASETS["mnist"](root=str(tmp_path))


def test_the_published_cifar_validation_overlaps_and_says_so(load_small):
    published = load_small("cifar", split="published_overlapping", val_size=10)
    assert (len(published.train), len(published.val)) == (30, 30)
    assert torch.equal(published.train.images[10:], published.val.images[:20])


def test_the_published_oasis_validation_is_the_training_set(load_small):
    published = load_small("oasis", split="published_overlapping")
    assert torch.equal(published.train.images, published.val.images)
    assert len(published.train) == 40


def test_oasis_slices_of_another_size_are_taken_from_a_file_that_was_prepared_so(tmp_path):
    save(tmp_path / "oasis/OASIS.npz", x_train=noise(8, 52, 44, 1), y_train=np.arange(8) % 2, settings="{}")
    assert DATASETS["oasis"](root=str(tmp_path)).image_shape == (1, 52, 44)


def test_oasis_splits_by_subject(tmp_path):
    ids = np.array([f"OAS1_{i // 2:04d}_MR{i % 2 + 1}" for i in range(40)])
    save(tmp_path / "oasis/OASIS.npz", x_train=noise(40, 208, 176, 1), y_train=np.arange(40), ids=ids)
    splits = DATASETS["oasis"](root=str(tmp_path), test_fraction=0.2)
    subjects = [set((part.labels // 2).tolist()) for part in splits.parts().values()]
    assert sum(map(len, subjects)) == 20 == len(set.union(*subjects))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([0, 0.5, 2, -1, 1], [0, 1, 3, -1, 2]), ([0, 1, 0, -1, 3], [0, 1, 0, -1, 3]), ([0.0, 2.0], [0, 2])],
)
def test_graded_labels_become_class_numbers(labels, expected):
    assert class_numbers(np.array(labels), len(labels), "y").tolist() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": noise(4, 208, 176, 1) // 2}, r"must have minimum 0 and maximum 255; 4 do not \(rows 0, 1, 2, 3\)"),
        ({"x_train": noise(4, 176, 208, 1)}, r"must have shape \(n, 208, 176, 1\)"),
        ({"y_train": np.array([0, 0.5, np.nan, 1])}, "must hold whole numbers, got values such as"),
        ({"ids": np.arange(4)}, "`ids` of .* must hold 4 strings"),
    ],
)
def test_oasis_files_that_do_not_fit(tmp_path, change, message):
    arrays = {"x_train": noise(4, 208, 176, 1), "y_train": np.arange(4)} | change
    save(tmp_path / "oasis/OASIS.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        DATASETS["oasis"](root=str(tmp_path))


def save_mat(root, **changes):
    from scipy.io import savemat

    (root / "svhn").mkdir()
    x = noise(20, 32, 32, 3)
    arrays = {"X": x.transpose(1, 2, 3, 0), "y": (np.arange(20) % 10 + 1).astype(np.uint8)[:, None]} | changes
    savemat(root / "svhn/train_32x32.mat", {k: v for k, v in arrays.items() if v is not None}, do_compression=True)
    return x


def test_svhn_axes_and_the_label_ten(tmp_path):
    x = save_mat(tmp_path)
    splits = DATASETS["svhn"](root=str(tmp_path), val_size=10)
    assert np.array_equal(splits.train.images.permute(0, 2, 3, 1), x[:10])
    assert splits.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, "has no array `X`; it holds: y"),
        ({"y": None}, "has no array `y`; it holds: X"),
        ({"X": noise(20, 32, 32, 3)}, r"must have shape \(32, 32, 3, n\), got \(20, 32, 32, 3\)"),
        ({"X": noise(20, 32, 32, 3).transpose(1, 2, 3, 0) / 255}, "must hold uint8 from 0 to 255, got float64"),
        ({"X": np.ones((32, 32, 3, 20), np.uint8)}, "none is above 1"),
        ({"X": np.array([{"a": 1}], dtype=object)}, "must hold uint8 from 0 to 255, got object"),
        ({"y": np.arange(20)[:, None] % 10}, "must hold labels from 1 to 10, got 0 to 9"),
        ({"y": np.ones((19, 1))}, r"must hold one label for each of the 20 images, got shape \(19, 1\)"),
    ],
)
def test_svhn_files_that_do_not_fit(tmp_path, changes, message):
    save_mat(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        DATASETS["svhn"](root=str(tmp_path), val_size=10)


@pytest.mark.parametrize("content", [b"", b"<html>", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_a_damaged_mat_file(tmp_path, content):
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn/train_32x32.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"train_32x32.mat` (is not a sound .mat file|has no array)"):
        DATASETS["svhn"](root=str(tmp_path))


def test_a_truncated_mat_file(tmp_path):
    save_mat(tmp_path)
    path = tmp_path / "svhn/train_32x32.mat"
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(ValueError, match=r"is not a sound .mat file"):
        DATASETS["svhn"](root=str(tmp_path))
